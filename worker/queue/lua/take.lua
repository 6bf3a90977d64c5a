-- Takes up again what this consumer holds from before. An entry that the queue has dropped since its delivery is
-- dead-lettered.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:dead        stream  dead letters
-- ARGV     group, consumer, cap of the dead letters, ids
-- Returns  {seconds, microseconds of the server's clock, entries {id, {field, value, ...}, times delivered},
--           number dead-lettered}
redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
local time = redis.call('TIME')
local taken, dropped = {}, 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if pending[1] then -- else another worker holds it now, or it was settled
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id) -- counts the delivery
    if claimed[1] then
      taken[#taken + 1] = {id, claimed[1][2], pending[1][4] + 1}
    else
      redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'entry_id', id, 'reason', 'trimmed',
        'message', 'the queue dropped the entry while a worker held it')
      redis.call('HINCRBY', KEYS[2], 'dead:trimmed', 1)
      dropped = dropped + 1
    end
  end
end
return {time[1], time[2], taken, dropped}
