-- Settles deliveries as counted or dead: acknowledges each, and if it was still pending counts it and writes its result
-- or dead letter.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:counts      stream  results
-- KEYS[4]  {...}:dead        stream  dead letters
-- ARGV     group, cap of the results, cap of the dead letters, then for each delivery:
--          field of the accounting (counted or dead:<reason>), id, number of words, words {field, value, ...}
-- Returns  for each delivery 1 if it was still pending, else 0
redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
redis.call('XLEN', KEYS[4])
local ended = {}
local i = 4
while ARGV[i] do
  local last = i + 2 + ARGV[i + 2]
  local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], ARGV[i + 1])
  if acknowledged == 1 then
    local counted = ARGV[i] == 'counted'
    redis.call('XADD', counted and KEYS[3] or KEYS[4], 'MAXLEN', '~', counted and ARGV[2] or ARGV[3], '*',
      unpack(ARGV, i + 3, last))
    redis.call('HINCRBY', KEYS[2], ARGV[i], 1)
  end
  ended[#ended + 1] = acknowledged
  i = last + 1
end
return ended
