-- Delivers new entries to a consumer and counts them as received, in one step. Also counts the entries that the queue
-- dropped before any worker read them.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- KEYS[3]  {...}:unread      hash    dropped: entries that no worker read; position: entries read or dropped so far;
--                                    last_id: the last entry that was read, for create_group.lua
-- ARGV     group, consumer, the most entries, the most bytes of entries, the largest of the entries read lately
-- Returns  {seconds, microseconds of the server's clock, entries {id, {field, value, ...}}, the id to wait behind,
--           the number of entries dropped unread so far, the last id of the queue at this read, bytes of the largest entry}
--
-- If there is no new entry, all entries up to the queue's last id were delivered, so a consumer waits for what follows that.
--
-- If all entries that are left follow the last one delivered, every entry that is gone was read or dropped; those
-- beyond the position were dropped. If a delivered entry is still there, no entry behind it can have been dropped since
-- the last read. Without a position (an older version read this queue) the first read only notes it.
--
-- Entries are delivered until another one as large as the largest of them might be too much, so they have at most so many bytes
-- and one entry. Only an entry that was read shows its size. So they are read in growing chunks; the first has as many as surely
-- fit if they are like those before and the queue's last one. What doesn't fit becomes undelivered again in this step.
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

local function bytes_of(entry)
  local sum, words = 0, entry[2]
  for i = 1, words and #words or 0 do
    sum = sum + #words[i]
  end
  return sum
end

local position = tonumber(redis.call('HGET', KEYS[3], 'position') or nil)
local dropped = tonumber(redis.call('HGET', KEYS[3], 'dropped') or 0)
local dropped_before, most, newest, largest = dropped, 0, '0-0', tonumber(ARGV[5])
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
      largest = math.max(largest, queue['last-entry'] and bytes_of(queue['last-entry']) or 0)
    end
  end
end

if most > 0 or dropped > dropped_before then
  redis.call('HSET', KEYS[3], 'dropped', dropped, 'position', position or '')
end
if most > 0 then
  redis.call('HINCRBY', KEYS[2], 'received', most)
end
local count, most_bytes, entries, taken, excess, bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), {}, 0, {}, 0
local chunk, reply, more = math.max(1, math.min(count, math.floor(most_bytes / (4 * math.max(1, largest))))), nil, true
largest = 0
repeat
  reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', chunk, 'STREAMS', KEYS[1], '>')
  local read = reply and reply[1] and reply[1][2] or {}
  more = #read == chunk
  for i = 1, #read do
    local entry = read[i]
    if bytes + largest > most_bytes then
      excess[#excess + 1] = entry
    else
      taken = taken + 1
      entries[taken] = entry
      local words, size = entry[2], 0 -- as bytes_of does, without a call for each entry
      for j = 1, words and #words or 0 do
        size = size + #words[j]
      end
      bytes = bytes + size
      if size > largest then
        largest = size
      end
    end
  end
  chunk = math.min(2 * chunk, count - #entries, math.floor((most_bytes - bytes) / math.max(1, largest)))
until not more or chunk < 1
if #excess > 0 then
  local set = {'XGROUP', 'SETID', KEYS[1], ARGV[1], entries[#entries][1]}
  if position then
    set[6], set[7] = 'ENTRIESREAD', position + #entries
  end
  local refused = redis.pcall(unpack(set)).err
  for i = 1, #excess do
    if refused then -- so they stay delivered
      entries[#entries + 1] = excess[i]
    else
      redis.call('XACK', KEYS[1], ARGV[1], excess[i][1])
    end
  end
end
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
return {time[1], time[2], entries, #entries > 0 and entries[#entries][1] or newest, dropped, newest, largest}
