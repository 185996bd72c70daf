-- A room's record, and the milliseconds it has left.
--
-- KEYS  1 room

local stored = redis.pcall('HMGET', KEYS[1], 'state', 'version', 'epoch', 'op_id', 'incarnation', 'owner', 'since_ms',
  'data', 'trace_id')
if stored.err then return { 'FOREIGN', KEYS[1], stored.err } end
local left = redis.call('PTTL', KEYS[1])
if left == -2 then return { 'MISSING' } end
local answer = { 'RECORD' }
for i = 1, 9 do
  if i < 9 and not stored[i] then return { 'FOREIGN', KEYS[1], 'a field is missing' } end
  local value = stored[i] or ''
  if #value > 65536 then return { 'FOREIGN', KEYS[1], 'a field of more than 64 KiB' } end
  answer[i + 1] = value
end
answer[11] = tostring(left)
return answer
