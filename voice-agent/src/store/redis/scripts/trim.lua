-- Cuts a partition's events that are too old or too many, but nothing that a registered group has not acknowledged, and
-- forgets isolations that ended long ago.
--
-- KEYS  1 events  2 isolated rooms  3 the last entry that was cut off, for readers
-- ARGV  1 the oldest milliseconds to keep  2 how many to keep at most  3 isolations that ended before this are forgotten

local function less(a, b) return #a < #b or (#a == #b and a < b) end
local function split(id) return string.match(id, '^(%d+)%-(%d+)$') end
local function older(a, b)
  local ams, aseq = split(a)
  local bms, bseq = split(b)
  return less(ams, bms) or (ams == bms and less(aseq, bseq))
end

local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'stream' then
  if kind ~= 'none' then return { 'FOREIGN', KEYS[1], 'is no stream' } end
  return { 'OK', 0, 0 }
end
local noted = redis.call('TYPE', KEYS[3]).ok
if noted ~= 'string' and noted ~= 'none' then return { 'FOREIGN', KEYS[3], 'is no string' } end
-- Cuts what is older than an id, and keeps in mind the last one of it.
local function cut_before(id)
  local last = id ~= '0-0' and redis.call('XREVRANGE', KEYS[1], '(' .. id, '-', 'COUNT', 1)[1]
  if not last then return 0 end
  redis.call('SET', KEYS[3], last[1])
  return redis.call('XTRIM', KEYS[1], 'MINID', id)
end
local kept = nil
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local of = {}
  for i = 1, #group, 2 do of[group[i]] = group[i + 1] end
  -- The first one pending, or else the first one that it has not been given.
  local ms, seq = split(of['last-delivered-id'])
  local first = ms .. '-' .. (#seq < 15 and string.format('%.0f', tonumber(seq) + 1) or seq)
  if of['pending'] > 0 then first = redis.call('XPENDING', KEYS[1], of['name'])[2] end
  if not kept or older(first, kept) then kept = first end
end
local before = redis.call('XLEN', KEYS[1])
local from = ARGV[1] .. '-0'
if kept and older(kept, from) then from = kept end
local cut = cut_before(from)
local most = tonumber(ARGV[2])
if before - cut > most then
  if kept then
    -- The one that would be the first of so many, unless a group still needs an older one.
    local last = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', math.min(before - cut - most, 1000))
    local first = last[#last][1]
    if older(kept, first) then first = kept end
    cut = cut + cut_before(first)
  else
    cut = cut + redis.call('XTRIM', KEYS[1], 'MAXLEN', most + 1)
    redis.call('SET', KEYS[3], redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1])
    cut = cut + redis.call('XTRIM', KEYS[1], 'MAXLEN', most)
  end
end
local held = before - cut - most
if held < 0 then held = 0 end
if redis.call('TYPE', KEYS[2]).ok == 'zset' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[3])
end
return { 'OK', cut, held }
