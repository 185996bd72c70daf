-- The owner's word that a room is still its: the record, its fence and its members live on. Only when the stored version is
-- the one the owner wrote, and nobody with a higher epoch has written.
--
-- KEYS  1 room  2 fence  3 clients
-- ARGV  1 version  2 era  3 revision  4 record seconds  5 fence seconds  6 op_id

local function less(a, b) return #a < #b or (#a == #b and a < b) end

local stored = redis.pcall('HMGET', KEYS[1], 'state', 'version', 'epoch', 'op_id', 'incarnation', 'owner', 'since_ms',
  'data', 'trace_id')
if stored.err then return { 'FOREIGN', KEYS[1], stored.err } end
local fence = redis.pcall('GET', KEYS[2])
if type(fence) == 'table' and fence.err then return { 'FOREIGN', KEYS[2], fence.err } end
if fence then
  local e, r = string.match(fence, '^(%d+)%.(%d+)$')
  if not e then return { 'FOREIGN', KEYS[2], 'is no epoch' } end
  if less(ARGV[2], e) or (ARGV[2] == e and less(ARGV[3], r)) then return { 'FENCED', fence } end
end
if not stored[1] and not stored[2] then
  if redis.call('EXISTS', KEYS[1]) == 1 then return { 'FOREIGN', KEYS[1], 'none of its fields are ours' } end
  return { 'MISSING' }
end
for i = 1, 8 do
  if not stored[i] then return { 'FOREIGN', KEYS[1], 'a field is missing' } end
  if #stored[i] > 65536 then return { 'FOREIGN', KEYS[1], 'a field of more than 64 KiB' } end
end
if stored[2] ~= ARGV[1] or stored[4] ~= ARGV[6] then
  local answer = { 'DIFFERS' }
  for i = 1, 9 do answer[i + 1] = stored[i] or '' end
  return answer
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
-- Raised as by a change: what an owner before sent late finds it, although this one has changed nothing yet.
redis.call('SET', KEYS[2], ARGV[2] .. '.' .. ARGV[3], 'EX', ARGV[5])
redis.call('EXPIRE', KEYS[3], ARGV[4])
return { 'KEPT' }
