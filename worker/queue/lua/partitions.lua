-- Notes how many partitions there are, unless that is noted already.
--
-- KEYS[1]  {...}:partitions  string  the number of partitions
-- KEYS[2]  {...}:frames      stream  the queue, if there is one partition
-- ARGV     number
-- Returns  the number that is in force
--
-- A queue with entries and without a number has one partition: it is older than the number.
local number = ARGV[1]
if number ~= '1' and redis.call('XLEN', KEYS[2]) > 0 then
  number = '1'
end
return redis.call('SET', KEYS[1], number, 'NX', 'GET') or number
