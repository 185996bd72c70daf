-- The word of an agent without a lease that its media server serves the room, for a custodian to find. It is given under no
-- epoch and changes nothing of what is stored; a record that is still this agent's lives on, and its members do.
--
-- KEYS  1 room  2 clients  3 served
-- ARGV  1 node  2 record seconds

local owner = redis.pcall('HGET', KEYS[1], 'owner')
if type(owner) == 'table' and owner.err then return { 'FOREIGN', KEYS[1], owner.err } end
local before = redis.pcall('GET', KEYS[3])
if type(before) == 'table' and before.err then return { 'FOREIGN', KEYS[3], before.err } end
redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[2])
if owner == ARGV[1] then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return { 'OK' }
