-- Settles deliveries as counted or dead: counts each that is still pending, writes its result or dead letter,
-- acknowledges it, and deletes its picture. Then writes what is kept of their streams for others to read.
--
-- KEYS[1]  {...}:frames          stream  the queue
-- KEYS[2]  {...}:accounting      hash    counters
-- KEYS[3]  {...}:counts          stream  results
-- KEYS[4]  {...}:dead            stream  dead letters
-- KEYS[5…] {...}:frame:<id>      string  pictures to delete, in the order of the deliveries that have one
-- and      {...}:stream:<name>   hash    for each stream: its last result and its totals
--          {...}:preview:<name>  string  and its last annotated picture
-- ARGV     group, cap of the results, cap of the dead letters, TTL of the streams' keys in s, number of deliveries
--          for each delivery: field of the accounting (counted or dead:<reason>), id, number of pictures (0 or 1), number
--          of words, words {field, value, ...}
--          for each stream: when it was heard, 1 if there is only silence else 0, preview or an empty string, frames
--          received, counted, admitted, skipped, superseded (some of the skipped) and dead since the last time, number of words,
--          words {field, value, ...}, number of words, words {skipped:<reason>, frames since the last time, ...}
-- Returns  {for each delivery 1 if it was still pending, else 0, for each stream {received, counted} in total or {},
--           why a stream couldn't be written, or an empty string}
--
-- Redis doesn't undo a script that fails half-way. So the acknowledgement comes when nothing can be refused any more. The
-- pictures go after it, because a delivery that comes back needs its own; if that is refused, they stay until their TTL.
-- They also stay if a delivery wasn't pending: if Redis has lost its last second, the entry comes again as a new one.
-- Streams come last, and whatever is refused there changes no settlement.
redis.call('XACK', KEYS[1], ARGV[1], '0-0') -- acknowledges nothing, but fails without the permission
redis.call('XLEN', KEYS[3])
redis.call('XLEN', KEYS[4])
local ended = {}
local i, key = 6, 5
for _ = 1, tonumber(ARGV[5]) do
  local field, id, last = ARGV[i], ARGV[i + 1], i + 3 + ARGV[i + 3]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if pending then
    local counted = field == 'counted'
    redis.call('HINCRBY', KEYS[2], field, 1)
    local added = redis.pcall('XADD', counted and KEYS[3] or KEYS[4], 'MAXLEN', '~', counted and ARGV[2] or ARGV[3], '*',
      unpack(ARGV, i + 4, last))
    if added.err then
      redis.call('HINCRBY', KEYS[2], field, -1)
      return added
    end
    redis.call('XACK', KEYS[1], ARGV[1], id)
    if ARGV[i + 2] == '1' then
      redis.pcall('UNLINK', KEYS[key])
    end
  end
  ended[#ended + 1] = pending and 1 or 0
  i, key = last + 1, key + ARGV[i + 2]
end

-- Writes one stream; returns the frames received and counted in total, nothing if another worker has heard it since.
local function write_stream(hash, preview, at)
  if ARGV[at + 1] == '1' and tonumber(redis.call('HGET', hash, 'heard_at') or 0) > tonumber(ARGV[at]) then
    return {}
  end
  local total = {}
  for n, name in ipairs({'received', 'counted', 'admitted', 'skipped', 'superseded', 'dead'}) do
    -- The totals of the first two are returned. The others are there from the first update on, so a 0 adds nothing.
    if n <= 2 or total[1] == tonumber(ARGV[at + 3]) or ARGV[at + 2 + n] ~= '0' then
      total[n] = redis.call('HINCRBY', hash, name, ARGV[at + 2 + n])
    end
  end
  redis.call('HSET', hash, 'heard_at', ARGV[at], unpack(ARGV, at + 10, at + 9 + ARGV[at + 9]))
  local skips = at + 10 + ARGV[at + 9]
  for n = skips + 1, skips + ARGV[skips], 2 do
    redis.call('HINCRBY', hash, ARGV[n], ARGV[n + 1])
  end
  redis.call('EXPIRE', hash, ARGV[4])
  if ARGV[at + 2] ~= '' then
    redis.call('SET', preview, ARGV[at + 2], 'EX', ARGV[4])
  end
  return {total[1], total[2]}
end

local totals, problem = {}, ''
while ARGV[i] do
  local done, reply = pcall(write_stream, KEYS[key], KEYS[key + 1], i)
  totals[#totals + 1] = done and reply or {}
  if not done then
    problem = type(reply) == 'table' and reply.err or tostring(reply)
  end
  local skips = i + 10 + ARGV[i + 9]
  i, key = skips + 1 + ARGV[skips], key + 2
end
return {ended, totals, problem}
