-- One change of a room: record, fence, event, isolation and the word to listeners, all or nothing. Everything is read and
-- judged before the first write. Numbers are compared as decimal text: Lua's own lose what is above 2^53.
--
-- KEYS  1 room  2 fence  3 isolation  4 events  5 isolated rooms  6 clients
-- ARGV  1 kind (begin, restore, go)  2 stored version it follows  3 old state ("" for none)  4 fence seconds
--       5 record seconds  6 channel  7 message  8 isolation (keep, set, clear)  9 its value  10 its milliseconds
--       11 its end  12 room  13 era  14 revision  15 number of fields of the record, then these as name, value, …,
--       then the event's

local function less(a, b) return #a < #b or (#a == #b and a < b) end

local function older(epoch, era, revision)
  local e, r = string.match(epoch, '^(%d+)%.(%d+)$')
  if not e then return nil end
  return less(e, era) or (e == era and less(r, revision)), e == era and r == revision
end

local function foreign(key, problem) return { 'FOREIGN', key, problem } end

local kind, previous, old_state = ARGV[1], ARGV[2], ARGV[3]
local isolation, room, era, revision = ARGV[8], ARGV[12], ARGV[13], ARGV[14]
local fields = tonumber(ARGV[15])
local record, event = {}, {}
for i = 16, 15 + fields do record[#record + 1] = ARGV[i] end
for i = 16 + fields, #ARGV do event[#event + 1] = ARGV[i] end
local new = {}
for i = 1, #record, 2 do new[record[i]] = record[i + 1] end

local stored = redis.pcall('HMGET', KEYS[1], 'state', 'version', 'epoch', 'op_id', 'incarnation', 'owner', 'since_ms',
  'data', 'trace_id')
if stored.err then return foreign(KEYS[1], stored.err) end
local fence = redis.pcall('GET', KEYS[2])
if type(fence) == 'table' and fence.err then return foreign(KEYS[2], fence.err) end

-- The fence first: who may not write is told nothing else.
if fence then
  local lower, same = older(fence, era, revision)
  if lower == nil then return foreign(KEYS[2], 'is no epoch') end
  if not lower and not same then return { 'FENCED', fence } end
end

local there = false
for i = 1, 9 do
  if stored[i] then
    there = true
    if #stored[i] > 65536 then return foreign(KEYS[1], 'a field of more than 64 KiB') end
  end
end
local state, version = stored[1], stored[2]
if there then
  for i = 1, 8 do
    if not stored[i] then return foreign(KEYS[1], 'a field is missing') end
  end
  if not string.match(version, '^%d+$') then return foreign(KEYS[1], 'its version is no number') end
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  return foreign(KEYS[1], 'none of its fields are ours')
end

local function conflict()
  if not there then return { 'CONFLICT' } end
  local answer = { 'CONFLICT' }
  for i = 1, 9 do answer[i + 1] = stored[i] or '' end
  return answer
end

if there and version == new.version and stored[4] == new.op_id then return { 'SKIPPED' } end

local begins, holds = kind == 'begin', false
if kind == 'restore' then
  if there then
    local lower, same = older(stored[3], era, revision)
    if lower == nil then return foreign(KEYS[1], 'its epoch is no epoch') end
    holds = less(version, new.version) and (lower or same)
  else
    holds = true
  end
elseif not there then
  holds = begins and old_state == ''
else
  local before = state
  if begins and state == 'DESTROYED' then before = '' end
  holds = version == previous and before == old_state
end
if not holds then return conflict() end

-- What will be written must be ours, or not there.
local cleared = new.state == 'DESTROYED' or begins
local function is(key, wanted)
  local found = redis.call('TYPE', key).ok
  return found == wanted or found == 'none'
end
if isolation ~= 'keep' then
  if not is(KEYS[3], 'string') then return foreign(KEYS[3], 'is no string') end
  if not is(KEYS[5], 'zset') then return foreign(KEYS[5], 'is no sorted set') end
end
if cleared and not is(KEYS[6], 'set') then return foreign(KEYS[6], 'is no set') end

-- First the one that can still fail: a stream of another type, or one whose ids are used up.
local id = redis.pcall('XADD', KEYS[4], '*', unpack(event))
if type(id) == 'table' and id.err then
  if string.match(id.err, '^OOM') then return redis.error_reply(id.err) end
  return foreign(KEYS[4], id.err)
end
redis.call('HSET', KEYS[1], unpack(record))
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('SET', KEYS[2], era .. '.' .. revision, 'EX', ARGV[4])
if cleared then redis.call('DEL', KEYS[6]) end
if isolation == 'set' and tonumber(ARGV[10]) > 0 then
  redis.call('SET', KEYS[3], ARGV[9], 'PX', ARGV[10])
  redis.call('ZADD', KEYS[5], ARGV[11], room)
elseif isolation ~= 'keep' then
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[5], room)
end
redis.call('PUBLISH', ARGV[6], ARGV[7])
return { 'OK', id }
