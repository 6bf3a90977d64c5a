-- Settles deliveries as skipped: acknowledges them, counts those that were still pending by their reason, and deletes
-- their pictures.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3…] {...}:frame:<id>  string  pictures to delete, in the order of the reasons
-- ARGV     group, then for each reason: field of the accounting, number of pictures, number of ids, ids
-- Returns  for each reason how many were still pending
--
-- Redis doesn't undo a script that fails half-way. So all are counted first, which may be refused, and those that weren't
-- pending are subtracted afterwards. The pictures go last, and if that is refused they stay until their TTL. They also
-- stay if one of a reason's deliveries wasn't pending: if Redis has lost its last second, the entry comes again as a new one.
redis.call('XACK', KEYS[1], ARGV[1], '0-0') -- acknowledges nothing, but fails without the permission
local ended, gone = {}, {}
local i, picture = 2, 3
while ARGV[i] do
  local pictures, number = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local last = i + 2 + number
  redis.call('HINCRBY', KEYS[2], ARGV[i], number)
  local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, i + 3, last))
  if acknowledged < number then
    redis.call('HINCRBY', KEYS[2], ARGV[i], acknowledged - number)
  else
    gone[#gone + 1] = {picture, picture + pictures - 1}
  end
  ended[#ended + 1] = acknowledged
  i, picture = last + 1, picture + pictures
end
for j = 1, #gone do
  if gone[j][1] <= gone[j][2] then
    redis.pcall('UNLINK', unpack(KEYS, gone[j][1], gone[j][2]))
  end
end
return ended
