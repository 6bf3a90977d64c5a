-- Notes how many partitions there are, unless that is noted already.
--
-- KEYS[1]  {...}:partitions  string  the number of partitions
-- KEYS[2]  {...}:frames      stream  the queue, if there is one partition
-- ARGV     number
-- Returns  the number that is in force
--
-- A queue with entries and without a number has one partition: it is older than the number. One that was divided a moment ago
-- isn't a stream.
local number = ARGV[1]
if number ~= '1' then
  local length = redis.pcall('XLEN', KEYS[2])
  if type(length) == 'number' then
    number = length > 0 and '1' or number
  elseif not length.err:find('WRONGTYPE') then
    return length
  end
end
return redis.call('SET', KEYS[1], number, 'NX', 'GET') or number
