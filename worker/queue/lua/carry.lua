-- Adds the accounting of a partition that is no more to that of another one, once.
--
-- KEYS[1]  {...}:accounting  hash  counters
-- KEYS[2]  {...}:carried     hash  partitions whose accounting was added, by their hash tag
-- ARGV     hash tag of the partition that is no more, then its field, value, ...
-- Returns  1 if this call added it, 0 if an earlier one did
if redis.call('HSETNX', KEYS[2], ARGV[1], 1) == 0 then
  return 0
end
for i = 2, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
return 1
