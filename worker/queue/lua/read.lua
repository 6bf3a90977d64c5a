-- Delivers new entries to a consumer and counts them as received, in one step. Also counts the entries that the queue
-- dropped before any worker read them.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:unread      hash    dropped: entries that no worker read; position: entries read or dropped so far;
--                                    last_id: the last entry that was read, for create_group.lua
-- ARGV     group, consumer, the most entries
-- Returns  {seconds, microseconds of the server's clock, entries {id, {field, value, ...}}, the queue's last id,
--           the number of entries dropped unread so far}
--
-- If there is no new entry, all entries up to the last id were delivered, so a consumer waits for what follows that id.
--
-- If all entries that are left follow the last one delivered, every entry that is gone was read or dropped; those
-- beyond the position were dropped. If a delivered entry is still there, no entry behind it can have been dropped since
-- the last read. Without a position (an older version read this queue) the first read only notes it.
--
-- Redis doesn't undo a script that fails half-way. So the most entries are counted first, which may be refused, and those
-- that didn't come are subtracted afterwards.
redis.call('XACK', KEYS[1], ARGV[1], '0-0') -- changes nothing; the first write, which Redis accepts even if memory is short

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
local dropped = tonumber(redis.call('HGET', KEYS[3], 'dropped') or 0)
local dropped_before, most = dropped, 0
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
      dropped = dropped + math.max(0, gone - (position or gone))
      position = math.max(gone, position or gone)
    end
    if is_behind(queue['last-generated-id'], delivered) then
      most = tonumber(ARGV[3])
    end
  end
end

if most > 0 or dropped > dropped_before then
  redis.call('HSET', KEYS[3], 'dropped', dropped, 'position', position or '')
end
if most > 0 then
  redis.call('HINCRBY', KEYS[2], 'received', most)
end
local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
local entries = reply and reply[1] and reply[1][2] or {}
if most > #entries then
  redis.call('HINCRBY', KEYS[2], 'received', #entries - most)
end
if reply and reply.err then
  return reply
end
local time = redis.call('TIME')
if #entries > 0 then
  redis.call('HSET', KEYS[3], 'position', position and position + #entries or '', 'last_id', entries[#entries][1])
end
local last_id = #entries > 0 and entries[#entries][1] or fields(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id']
return {time[1], time[2], entries, last_id, dropped}
