-- Takes up again what this consumer holds from before. An entry that the queue has dropped since its delivery is
-- dead-lettered.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:dead        stream  dead letters
-- ARGV     group, consumer, cap of the dead letters, the most bytes of entries unless one entry alone has more, ids
-- Returns  {seconds, microseconds of the server's clock, entries {id, {field, value, ...}, times delivered},
--           number dead-lettered}
--
-- Takes up as many as fit, by the rule of read.lua.
--
-- Redis doesn't undo a script that fails half-way. So a dropped entry is acknowledged last, when nothing can be refused
-- any more. XCLAIM isn't used for it, because it would remove the entry before it is counted.
redis.call('XACK', KEYS[1], ARGV[1], '0-0') -- acknowledges nothing, but fails without the permission
local time = redis.call('TIME')
local taken, dropped, bytes, largest = {}, 0, 0, 0
for i = 5, #ARGV do
  if #taken > 0 and bytes + largest > tonumber(ARGV[4]) then
    break
  end
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if pending[1] then -- else another worker holds it now, or it was settled
    if redis.call('XRANGE', KEYS[1], id, id)[1] then
      local words = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id)[1][2] -- counts the delivery
      taken[#taken + 1] = {id, words, pending[1][4] + 1}
      local size = 0
      for j = 1, #words do
        size = size + #words[j]
      end
      bytes, largest = bytes + size, math.max(largest, size)
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
end
return {time[1], time[2], taken, dropped}
