-- Sets how long the entries that this consumer holds have been idle: 0 keeps other workers from adopting them, a long
-- time lets them.
--
-- Entries that are released have their count of deliveries lowered by one, because a stop isn't a crash; but not to 0, which
-- says that nobody has decided about the entry yet.
-- Entries that the queue has dropped are left alone: XCLAIM would delete them, and adopt.lua has to count them.
--
-- KEYS[1]  {...}:frames  stream  the queue
-- ARGV     group, consumer, idle milliseconds, ids
-- Returns  how many of them it still held
local held = 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if pending[1] and redis.call('XRANGE', KEYS[1], id, id)[1] then
    local times = pending[1][4]
    if tonumber(ARGV[3]) > 0 and times > 1 then
      times = times - 1
    end
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', times, 'JUSTID')
    held = held + 1
  end
end
return held
