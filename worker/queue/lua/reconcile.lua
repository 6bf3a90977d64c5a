-- Counts as dead what was delivered and is neither settled nor pending any more: because the consumer group was destroyed, or
-- a consumer that held it was deleted, or it was acknowledged by hand. Nothing else knows which entries these were.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:dead        stream  dead letters; all that is lost at once is one of them
-- ARGV     group, cap of the dead letters, all fields of the accounting but received
-- Returns  how many are lost
local left = tonumber(redis.call('HGET', KEYS[2], 'received') or 0)
for i = 3, #ARGV do
  local settled = tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or 0)
  left = left and settled and left - settled
end
local lost = (left or 0) - redis.call('XPENDING', KEYS[1], ARGV[1])[1]
if lost <= 0 then
  return 0 -- or a counter isn't a number, or somebody has reset them
end
redis.call('HINCRBY', KEYS[2], 'dead:lost', lost)
local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'reason', 'lost', 'deliveries', lost,
  'message', 'the consumer group forgot deliveries: it was destroyed, or a consumer of it, or they were acknowledged by hand')
if added.err then
  redis.call('HINCRBY', KEYS[2], 'dead:lost', -lost)
  return added
end
return lost
