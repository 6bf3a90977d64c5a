-- Sets how often entries that this consumer holds count as delivered. Each is a sign of life, too.
--
-- KEYS[1]  {...}:frames  stream  the queue
-- ARGV     group, consumer, then for each entry: id, times
-- Returns  how many of them it still held
--
-- Entries that the queue has dropped are left alone: XCLAIM would delete them, and adopt.lua has to count them.
local held = 0
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if pending[1] and redis.call('XRANGE', KEYS[1], id, id)[1] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
    held = held + 1
  end
end
return held
