-- Makes this consumer the holder of deliveries that showed no sign of life, one page per call. An entry that the queue has
-- dropped since its delivery is dead-lettered.
--
-- The times delivered stay the same: take.lua counts a delivery when the entry is taken up.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:dead        stream  dead letters
-- ARGV     group, consumer, cap of the dead letters, idle milliseconds, first id, the most entries
-- Returns  {first id of the next page or an empty string, number adopted, number dead-lettered}
--
-- Redis doesn't undo a script that fails half-way. So a dropped entry is acknowledged last, when nothing can be refused
-- any more. XAUTOCLAIM isn't used, because it would remove the entry before it is counted.
redis.call('XACK', KEYS[1], ARGV[1], '0-0') -- acknowledges nothing, but fails without the permission
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[4], ARGV[5], '+', ARGV[6])
local adopted, dropped = 0, 0
for i = 1, #pending do
  local id = pending[i][1]
  if redis.call('XRANGE', KEYS[1], id, id)[1] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
    adopted = adopted + 1
  else
    redis.call('HINCRBY', KEYS[2], 'dead:trimmed', 1)
    local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'entry_id', id, 'reason', 'trimmed',
      'message', 'the queue dropped the entry while a worker held it')
    if added.err then
      redis.call('HINCRBY', KEYS[2], 'dead:trimmed', -1)
      return added
    end
    redis.call('XACK', KEYS[1], ARGV[1], id)
    dropped = dropped + 1
  end
end
local next_page = #pending == tonumber(ARGV[6]) and '(' .. pending[#pending][1] or ''
return {next_page, adopted, dropped}
