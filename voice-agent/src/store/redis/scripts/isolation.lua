-- A room's isolation. One that has ended is taken off the list.
--
-- KEYS  1 isolation  2 isolated rooms
-- ARGV  1 room

local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' and value.err then return { 'FOREIGN', KEYS[1], value.err } end
if not value then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return { 'MISSING' }
end
if #value > 65536 then return { 'FOREIGN', KEYS[1], 'more than 64 KiB' } end
return { 'ISOLATION', value }
