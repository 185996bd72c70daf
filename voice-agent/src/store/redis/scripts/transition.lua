-- One change of a room: record, fence, event, isolation and the word to listeners, all or nothing. Everything is read and
-- judged before the first write. Numbers are compared as decimal text: Lua's own lose what is above 2^53.
--
-- KEYS  1 room  2 fence  3 isolation  4 events  5 isolated rooms  6 clients
-- ARGV  1 kind (begin, restore, repair, go)  2 stored version it follows  3 old state ("" for none)  4 fence seconds
--       5 record seconds  6 channel  7 message  8 isolation (keep, set, clear)  9 its value  10 its milliseconds
--       11 its end  12 room, then the record: 13 state  14 version  15 epoch  16 op_id  17 incarnation  18 owner
--       19 since_ms  20 data  21 trace_id, and of the event: 22 event_type  23 actor  24 reason  25 timestamp

-- repair: a person's restore, which also writes over a field that cannot be read.
local kind, old_state, isolation, room = ARGV[1], ARGV[3], ARGV[8], ARGV[12]
local new_state, new_version, epoch, op_id = ARGV[13], ARGV[14], ARGV[15], ARGV[16]

local function less(a, b) return #a < #b or (#a == #b and a < b) end

-- Whether an epoch is below the one of this change; nil when it is none.
local function lower(other)
  local e, r = string.match(other, '^(%d+)%.(%d+)$')
  if not e then return nil end
  local era, revision = string.match(epoch, '^(%d+)%.(%d+)$')
  return less(e, era) or (e == era and less(r, revision))
end

local stored = redis.pcall('HMGET', KEYS[1], 'state', 'version', 'epoch', 'op_id', 'incarnation', 'owner', 'since_ms',
  'data', 'trace_id')
if stored.err then return { 'FOREIGN', KEYS[1], stored.err } end
local fence = redis.pcall('GET', KEYS[2])
if type(fence) == 'table' then return { 'FOREIGN', KEYS[2], fence.err } end

-- The fence first: who may not write is told nothing else.
if fence and fence ~= epoch then
  local below = lower(fence)
  if below == nil then return { 'FOREIGN', KEYS[2], 'is no epoch' } end
  if not below then return { 'FENCED', fence } end
end

local there = false
for i = 1, 9 do
  if stored[i] then
    there = true
    if #stored[i] > 65536 and kind ~= 'repair' then return { 'FOREIGN', KEYS[1], 'a field of more than 64 KiB' } end
  end
end
local state, version = stored[1], stored[2]
if there and kind ~= 'repair' then
  for i = 1, 8 do
    if not stored[i] then return { 'FOREIGN', KEYS[1], 'a field is missing' } end
  end
  if not string.match(version, '^%d+$') then return { 'FOREIGN', KEYS[1], 'its version is no number' } end
elseif not there and redis.call('EXISTS', KEYS[1]) == 1 then
  return { 'FOREIGN', KEYS[1], 'none of its fields are ours' }
end

if there and version == new_version and stored[4] == op_id then return { 'SKIPPED' } end

local begins, holds = kind == 'begin', false
if kind == 'repair' then
  -- Who wrote it counts only where that can be read.
  local by = stored[3] or ''
  local above = by ~= epoch and lower(by) == false
  holds = not above and not (version and string.match(version, '^%d+$') and not less(version, new_version))
elseif kind == 'restore' then
  if there then
    local below = stored[3] == epoch or lower(stored[3])
    if below == nil then return { 'FOREIGN', KEYS[1], 'its epoch is no epoch' } end
    holds = below and less(version, new_version)
  else
    holds = true
  end
elseif not there then
  holds = begins and old_state == ''
else
  local before = state
  if begins and state == 'DESTROYED' then before = '' end
  holds = version == ARGV[2] and before == old_state
end
if not holds then
  local answer = { 'CONFLICT' }
  if there then
    for i = 1, 9 do answer[i + 1] = stored[i] or '' end
  end
  return answer
end

-- What will be written must be ours, or not there.
local cleared = new_state == 'DESTROYED' or begins
local function is(key, wanted)
  local found = redis.call('TYPE', key).ok
  return found == wanted or found == 'none'
end
if isolation ~= 'keep' then
  if not is(KEYS[3], 'string') then return { 'FOREIGN', KEYS[3], 'is no string' } end
  if not is(KEYS[5], 'zset') then return { 'FOREIGN', KEYS[5], 'is no sorted set' } end
end
if cleared and not is(KEYS[6], 'set') then return { 'FOREIGN', KEYS[6], 'is no set' } end

-- All that will be written must be allowed: a permission that is missing halfway would leave half a change.
local may = redis.acl_check_cmd
local allowed = may('XADD', KEYS[4], '*', 'room', room) and may('HSET', KEYS[1], 'state', new_state)
  and may('EXPIRE', KEYS[1], ARGV[5]) and may('SET', KEYS[2], epoch) and may('PUBLISH', ARGV[6], ARGV[7])
  and (not cleared or may('DEL', KEYS[6]))
if allowed and isolation ~= 'keep' then
  allowed = may('SET', KEYS[3], ARGV[9]) and may('ZADD', KEYS[5], ARGV[11], room) and may('DEL', KEYS[3])
    and may('ZREM', KEYS[5], room)
end
if not allowed then
  return redis.error_reply('NOPERM a change needs XADD, HSET, EXPIRE, SET, DEL, ZADD, ZREM and PUBLISH on its keys and channel')
end

-- First the one that can still fail: a stream of another type, or one whose ids are used up.
local id = redis.pcall('XADD', KEYS[4], '*', 'room', room, 'incarnation', ARGV[17], 'event_type', ARGV[22], 'old_state',
  old_state, 'new_state', new_state, 'version', new_version, 'epoch', epoch, 'op_id', op_id, 'actor', ARGV[23], 'reason',
  ARGV[24], 'trace_id', ARGV[21], 'timestamp', ARGV[25])
if type(id) == 'table' then
  if string.match(id.err, '^OOM') then return redis.error_reply(id.err) end
  return { 'FOREIGN', KEYS[4], id.err }
end
redis.call('HSET', KEYS[1], 'state', new_state, 'version', new_version, 'epoch', epoch, 'op_id', op_id, 'incarnation',
  ARGV[17], 'owner', ARGV[18], 'since_ms', ARGV[19], 'data', ARGV[20], 'trace_id', ARGV[21])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('SET', KEYS[2], epoch, 'EX', ARGV[4])
if cleared then redis.call('DEL', KEYS[6]) end
if isolation == 'set' and tonumber(ARGV[10]) > 0 then
  redis.call('SET', KEYS[3], ARGV[9], 'PX', ARGV[10])
  redis.call('ZADD', KEYS[5], ARGV[11], room)
elseif isolation ~= 'keep' then
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[5], room)
end
redis.call('PUBLISH', ARGV[6], ARGV[7])
return { 'OK' }
