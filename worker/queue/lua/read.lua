-- Delivers new entries to a consumer and counts them as received, in one step. Also counts the entries that the queue
-- dropped before any worker read them.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:unread      hash    dropped: entries that no worker read; position: entries read or dropped so far;
--                                    last_id: the last entry that was read, for create_group.lua
-- ARGV     group, consumer, the most entries, the most bytes of entries unless one entry alone has more
-- Returns  {seconds, microseconds of the server's clock, entries {id, {field, value, ...}}, the id to wait behind,
--           the number of entries dropped unread so far, the last id of the queue at this read}
--
-- If there is no new entry, all entries up to the queue's last id were delivered, so a consumer waits for what follows that.
--
-- If all entries that are left follow the last one delivered, every entry that is gone was read or dropped; those
-- beyond the position were dropped. If a delivered entry is still there, no entry behind it can have been dropped since
-- the last read. Without a position (an older version read this queue) the first read only notes it.
--
-- Only an entry that was read shows its size. So unless the whole queue is small, entries are read one by one, until another one
-- as large as the largest of them might be too much. What is read has at most so many bytes and one entry.
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
local dropped_before, most, newest, unread = dropped, 0, '0-0', 0
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
      unread = queue['entries-added'] - (position or 0)
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
-- To add up the queue's memory takes as long as to read about ten entries one by one.
local memory = math.min(unread, tonumber(ARGV[3])) > 10 and redis.pcall('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0)
local is_small = type(memory) == 'number' and memory <= tonumber(ARGV[4])
local chunk, bytes, largest = is_small and tonumber(ARGV[3]) or 1, 0, 0
repeat
  reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', chunk, 'STREAMS', KEYS[1], '>')
  local read = reply and reply[1] and reply[1][2] or {}
  for i = 1, #read do
    entries[#entries + 1] = read[i]
  end
  local words, size = not is_small and read[1] and read[1][2] or {}, 0
  for i = 1, #words do
    size = size + #words[i]
  end
  bytes, largest = bytes + size, math.max(largest, size)
until is_small or #read == 0 or #entries == unread or #entries == tonumber(ARGV[3]) or bytes + largest > tonumber(ARGV[4])
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
