-- Publishes one frame once: a repetition, after a lost reply, does nothing.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:frame:<id>  string  the encoded picture; a worker deletes it when it has settled the entry
-- KEYS[3]  {...}:frame:<id>  string  the number of the last frame that this publisher published
-- ARGV     picture, its time to live in ms, cap of the queue, 'drop' or the number of entries that aren't settled from which
--          it waits, number of the frame, then field, value, ... of the entry
-- Returns  1 and the number of entries that this one pushed out of the queue unread, if this call published the frame;
--          0 if an earlier one did; -1 if it has to wait, because so many entries aren't settled
--
-- Settled entries stay in the queue until the cap drops them, so its length doesn't show whether there is room.
--
-- Redis doesn't undo a script that fails half-way. If the entry is refused, the picture has to go, and the number, else a
-- repetition would take the frame for published. SET does both, because that can't be refused: it has just been permitted.

local NUMBER_MS = 3600000 -- how long a repetition is recognised after the publisher's last frame; longer than any outage

-- Returns the number of entries that no worker has read, of the last `most` ones, and the number of those that aren't settled.
local function backlog(groups, most)
  local unread, pending = 0, 0
  for i = 1, #groups do
    local group = {}
    for j = 1, #groups[i], 2 do
      group[groups[i][j]] = groups[i][j + 1]
    end
    -- The lag includes what was pushed out, unless nothing was ever read.
    local lag = group['last-delivered-id'] == '0-0' and most or group['lag'] or 0
    unread, pending = math.max(unread, math.min(lag, most)), math.max(pending, group['pending'])
  end
  return #groups == 0 and most or unread, pending -- without a group, no worker has read anything yet
end

local cap, length = tonumber(ARGV[3]), redis.call('XLEN', KEYS[1]) -- fails if the key has another type
local full = false
local most = tonumber(ARGV[4])
if most and length >= most then
  local unread, pending = backlog(redis.call('XINFO', 'GROUPS', KEYS[1]), length)
  full = unread + pending >= most
end
local before = redis.call('SET', KEYS[3], ARGV[5], 'PX', NUMBER_MS, 'GET')
if before == ARGV[5] then
  return 0
end
local function forget()
  redis.call('SET', KEYS[3], before or '', 'PX', before and NUMBER_MS or 1)
end
if full then
  forget()
  return -1
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local entry = {unpack(ARGV, 6)}
local time = redis.pcall('TIME') -- the id's time is wrong if anybody has added an entry with an id in the future
if not time.err then
  entry[#entry + 1] = 'queued_at'
  entry[#entry + 1] = time[1] .. '.' .. string.format('%06d', time[2])
end
local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', unpack(entry))
if added.err then
  redis.call('SET', KEYS[2], '', 'PX', 1)
  forget()
  return added
end
local left = length >= cap and redis.call('XLEN', KEYS[1]) or length + 1
local groups = left <= length and redis.pcall('XINFO', 'GROUPS', KEYS[1])
if not groups or groups.err then
  return 1
end
return 1 + math.max(0, backlog(groups, length + 1) - left)
