-- Settles deliveries as skipped: acknowledges them, counts those that were still pending by their reason, and deletes
-- their pictures.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3…] {...}:frame:<id>  string  pictures to delete
-- ARGV     group, then for each reason: field of the accounting, number of ids, ids
-- Returns  for each reason how many were still pending
--
-- Redis doesn't undo a script that fails half-way. So all are counted first, which may be refused, and those that weren't
-- pending are subtracted afterwards. The pictures go last, and if that is refused they stay until their TTL.
redis.call('XACK', KEYS[1], ARGV[1], '0-0') -- acknowledges nothing, but fails without the permission
local ended = {}
local i = 2
while ARGV[i] do
  local last = i + 1 + ARGV[i + 1]
  redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1])
  local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, i + 2, last))
  if acknowledged < tonumber(ARGV[i + 1]) then
    redis.call('HINCRBY', KEYS[2], ARGV[i], acknowledged - ARGV[i + 1])
  end
  ended[#ended + 1] = acknowledged
  i = last + 1
end
if KEYS[3] then
  redis.pcall('UNLINK', unpack(KEYS, 3))
end
return ended
