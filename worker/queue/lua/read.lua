-- Delivers new entries to a consumer and counts them as received, in one step. Also counts the entries that the queue
-- dropped before any worker read them.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:unread      hash    dropped: entries that no worker read; position: entries read or dropped so far;
--                                    last_id: the last entry that was read, for create_group.lua
-- ARGV     group, consumer, the most entries, about the most bytes of pictures inside the entries, how many entries to begin
--          with
-- Returns  {seconds, microseconds of the server's clock, entries {id, {field, value, ...}}, the id to wait behind,
--           the number of entries dropped unread so far, the last id of the queue at this read}
--
-- If there is no new entry, all entries up to the queue's last id were delivered, so a consumer waits for what follows that.
--
-- If all entries that are left follow the last one delivered, every entry that is gone was read or dropped; those
-- beyond the position were dropped. If a delivered entry is still there, no entry behind it can have been dropped since
-- the last read. Without a position (an older version read this queue) the first read only notes it.
--
-- Entries are read in growing chunks, because only a read entry shows its size. A chunk has as many entries as would fit if all
-- were as large as the largest one before it; the first has at least one entry, whatever its size.
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
local dropped_before, most, newest = dropped, 0, '0-0'
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
    newest = queue['last-generated-id']
    if is_behind(newest, delivered) then
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
local entries, reply = {}, nil
local chunk, bytes, largest = math.min(tonumber(ARGV[5]), tonumber(ARGV[3])), 0, 1
repeat
  reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', chunk, 'STREAMS', KEYS[1], '>')
  local read = reply and reply[1] and reply[1][2] or {}
  for i = 1, #read do
    entries[#entries + 1] = read[i]
    local words = read[i][2]
    for j = 1, words and #words or 0, 2 do
      if words[j] == 'frame' then
        bytes, largest = bytes + #words[j + 1], math.max(largest, #words[j + 1])
      end
    end
  end
  local full = #read == chunk
  chunk = math.min(2 * chunk, tonumber(ARGV[3]) - #entries, math.floor((tonumber(ARGV[4]) - bytes) / largest))
until not full or chunk < 1
if most > #entries then
  redis.call('HINCRBY', KEYS[2], 'received', #entries - most)
end
if reply and reply.err and #entries == 0 then
  return reply
end
local time = redis.call('TIME')
if #entries > 0 then
  redis.call('HSET', KEYS[3], 'position', position and position + #entries or '', 'last_id', entries[#entries][1])
end
return {time[1], time[2], entries, #entries > 0 and entries[#entries][1] or newest, dropped, newest}
