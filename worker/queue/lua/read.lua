-- Delivers new entries to a consumer and counts them as received, in one step. Also counts the entries that the queue
-- dropped before any worker read them.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:unread      hash    dropped: entries that no worker read; position: entries read or dropped so far
-- ARGV     group, consumer, the most entries
-- Returns  {seconds, microseconds of the server's clock, entries {id, {field, value, ...}}, the queue's last id,
--           the number of entries dropped unread so far}
--
-- If there is no new entry, all entries up to the last id were delivered, so a consumer waits for what follows that id.
--
-- If all entries that are left follow the last one delivered, every entry that is gone was read or dropped; those
-- beyond the position were dropped. If a delivered entry is still there, no entry behind it can have been dropped since
-- the last read. Without a position (an older version read this queue) the first read only notes it.
redis.call('HLEN', KEYS[2]) -- fails on a key of another type before anything is changed
redis.call('HLEN', KEYS[3])

local function fields(flat)
  local of = {}
  for i = 1, #flat, 2 do
    of[flat[i]] = flat[i + 1]
  end
  return of
end

local function is_behind(id, other)
  local ms, number = id:match('(%d+)-(%d+)')
  local other_ms, other_number = other:match('(%d+)-(%d+)')
  return tonumber(ms) > tonumber(other_ms) or ms == other_ms and tonumber(number) > tonumber(other_number)
end

local position = tonumber(redis.call('HGET', KEYS[3], 'position') or nil)
local groups = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[1]) or {}
for i = 1, #groups do
  local group = fields(groups[i])
  local delivered = group['last-delivered-id']
  if group['name'] == ARGV[1] then
    local queue = fields(redis.call('XINFO', 'STREAM', KEYS[1]))
    local gone = queue['entries-added'] - queue['length']
    local first = queue['first-entry']
    position = position or delivered == '0-0' and 0
    if not first or is_behind(first[1], delivered) then
      if position and gone > position then
        redis.call('HINCRBY', KEYS[3], 'dropped', gone - position)
      end
      position = position and math.max(gone, position) or gone
    end
  end
end

local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
local time = redis.call('TIME')
local entries = reply and reply[1][2] or {}
if position then
  redis.call('HSET', KEYS[3], 'position', position + #entries)
end
local dropped = tonumber(redis.call('HGET', KEYS[3], 'dropped') or 0)
if reply then
  redis.call('HINCRBY', KEYS[2], 'received', #entries)
  return {time[1], time[2], entries, entries[#entries][1], dropped}
end
return {time[1], time[2], entries, fields(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id'], dropped}
