-- Makes this consumer the holder of deliveries that showed no sign of life, one page per call. An adopted entry that the
-- queue has dropped since its delivery is dead-lettered.
--
-- The times delivered stay the same: take.lua counts a delivery when the entry is taken up.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:dead        stream  dead letters
-- ARGV     group, consumer, cap of the dead letters, idle milliseconds, cursor, the most entries
-- Returns  {next cursor, number adopted, number dead-lettered}
redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
local reply = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[4], ARGV[5], 'COUNT', ARGV[6], 'JUSTID')
local dropped = reply[3]
for i = 1, #dropped do
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'entry_id', dropped[i], 'reason', 'trimmed',
    'message', 'the queue dropped the entry while a worker held it')
end
if #dropped > 0 then
  redis.call('HINCRBY', KEYS[2], 'dead:trimmed', #dropped)
end
return {reply[1], #reply[2], #dropped}
