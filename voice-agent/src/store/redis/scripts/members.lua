-- Clients that joined and left a room.
--
-- KEYS  1 clients
-- ARGV  1 seconds they are kept without a refresh  2 how many joined, then these, then those who left

local joined = tonumber(ARGV[2])
if redis.call('TYPE', KEYS[1]).ok ~= 'set' and redis.call('EXISTS', KEYS[1]) == 1 then
  return { 'FOREIGN', KEYS[1], 'is no set' }
end
for i = 3, 2 + joined do redis.call('SADD', KEYS[1], ARGV[i]) end
for i = 3 + joined, #ARGV do redis.call('SREM', KEYS[1], ARGV[i]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return { 'OK' }
