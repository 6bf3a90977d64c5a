-- Makes a replica known to the fleet and counts all replicas.
--
-- KEYS[1]  the replicas, a sorted set: identity -> Unix seconds of its last heartbeat by this server's clock
-- ARGV[1]  this replica's identity
-- ARGV[2]  seconds of silence after which a replica isn't counted any more
--
-- Returns the number of replicas and the place of this one among them, which counts from 0.

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

redis.call('ZADD', KEYS[1], string.format('%.6f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.6f', now - tonumber(ARGV[2])))
redis.call('EXPIRE', KEYS[1], 3600)

local replicas = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(replicas)
for place, replica in ipairs(replicas) do
  if replica == ARGV[1] then
    return {#replicas, place - 1}
  end
end
