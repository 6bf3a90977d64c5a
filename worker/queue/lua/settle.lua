-- Settles deliveries as counted or dead: counts each that is still pending, writes its result or dead letter,
-- acknowledges it, and deletes its picture.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:counts      stream  results
-- KEYS[4]  {...}:dead        stream  dead letters
-- KEYS[5…] {...}:frame:<id>  string  pictures to delete
-- ARGV     group, cap of the results, cap of the dead letters, then for each delivery:
--          field of the accounting (counted or dead:<reason>), id, number of words, words {field, value, ...}
-- Returns  for each delivery 1 if it was still pending, else 0
--
-- Redis doesn't undo a script that fails half-way. So the acknowledgement comes when nothing can be refused any more. The
-- pictures go last: a delivery that comes back needs its own. If that is refused, they stay until their TTL.
redis.call('XACK', KEYS[1], ARGV[1], '0-0') -- acknowledges nothing, but fails without the permission
redis.call('XLEN', KEYS[3])
redis.call('XLEN', KEYS[4])
local ended = {}
local i = 4
while ARGV[i] do
  local field, id, last = ARGV[i], ARGV[i + 1], i + 2 + ARGV[i + 2]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if pending then
    local counted = field == 'counted'
    redis.call('HINCRBY', KEYS[2], field, 1)
    local added = redis.pcall('XADD', counted and KEYS[3] or KEYS[4], 'MAXLEN', '~', counted and ARGV[2] or ARGV[3], '*',
      unpack(ARGV, i + 3, last))
    if added.err then
      redis.call('HINCRBY', KEYS[2], field, -1)
      return added
    end
    redis.call('XACK', KEYS[1], ARGV[1], id)
  end
  ended[#ended + 1] = pending and 1 or 0
  i = last + 1
end
if KEYS[5] then
  redis.pcall('UNLINK', unpack(KEYS, 5))
end
return ended
