-- All that is stored of a room, for who compares it with what it should be. Each text that is there follows a '=', so that
-- one that is not is told from an empty one.
--
-- KEYS  1 room  2 fence  3 isolation

local function text(value)
  if type(value) == 'table' then return '!' .. value.err end
  if not value then return '' end
  return '=' .. string.sub(value, 1, 65536)
end

local stored = redis.pcall('HMGET', KEYS[1], 'state', 'version', 'epoch', 'op_id', 'incarnation', 'owner', 'since_ms',
  'data')
local fence, isolation = text(redis.pcall('GET', KEYS[2])), text(redis.pcall('GET', KEYS[3]))
if stored.err then return { 'FOREIGN_RECORD', fence, isolation, stored.err } end
if redis.call('EXISTS', KEYS[1]) == 0 then return { 'NO_RECORD', fence, isolation } end
local answer = { 'RECORD', fence, isolation }
for i = 1, 8 do answer[i + 3] = text(stored[i]) end
return answer
