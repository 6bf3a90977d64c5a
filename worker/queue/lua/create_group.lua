-- Creates the consumer group: behind what was delivered before, if only the group is gone, else at the queue's beginning.
--
-- KEYS[1]  {...}:frames  stream  the queue
-- KEYS[2]  {...}:unread  hash    position: entries read or dropped so far; last_id: the last entry that was read
-- ARGV     group
-- Returns  1 if this call created it, 0 if it exists
--
-- The queue is still the one that was read if its last read entry is there, or if as many entries are gone as were read. A
-- queue that is new starts its counts from zero.
local function fields(flat)
  local of = {}
  for i = 1, #flat, 2 do
    of[flat[i]] = flat[i + 1]
  end
  return of
end

local last = redis.call('HGET', KEYS[2], 'last_id')
local position = tonumber(redis.call('HGET', KEYS[2], 'position') or nil)
local same = false
if last and position and redis.call('EXISTS', KEYS[1]) == 1 then
  local queue = fields(redis.call('XINFO', 'STREAM', KEYS[1]))
  local gone = queue['entries-added'] - queue['length']
  same = redis.call('XRANGE', KEYS[1], last, last)[1] or gone >= position
end
local created
if same then
  created = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], last, 'ENTRIESREAD', position)
else
  created = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
end
if created.err then
  return created.err:find('BUSYGROUP') and 0 or created
end
if not same then
  redis.call('HDEL', KEYS[2], 'position', 'last_id')
end
return 1
