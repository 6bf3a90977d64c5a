-- Publishes one frame once: a repetition, after a lost reply, does nothing.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:frame:<id>  string  the encoded picture; it exists if the frame was published
-- ARGV     picture, its time to live in ms, cap of the queue, 'wait' or 'drop', then field, value, ... of the entry
-- Returns  1 and the number of entries that this one pushed out of the queue unread, if this call published the frame;
--          0 if an earlier one did; -1 if it has to wait, because the queue is full of entries that aren't settled
--
-- Settled entries stay in the queue until the cap drops them, so its length doesn't show whether there is room.

-- Returns the number of entries that no worker has read, plus, unless they are left out, those that aren't settled.
local function waiting(length, with_pending)
  local most, groups = 0, redis.call('XINFO', 'GROUPS', KEYS[1])
  for i = 1, #groups do
    local group = {}
    for j = 1, #groups[i], 2 do
      group[groups[i][j]] = groups[i][j + 1]
    end
    -- The lag includes what was pushed out, unless nothing was ever read.
    local lag = group['last-delivered-id'] == '0-0' and length or group['lag'] or 0
    most = math.max(most, math.min(lag, length) + (with_pending and group['pending'] or 0))
  end
  return #groups == 0 and length or most -- without a group, no worker has read anything yet
end

local cap, length = tonumber(ARGV[3]), redis.call('XLEN', KEYS[1]) -- fails if the key has another type
if ARGV[4] == 'wait' and length >= cap and waiting(length, true) >= cap and redis.call('EXISTS', KEYS[2]) == 0 then
  return -1
end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 0
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 5))
local left = length >= cap and redis.call('XLEN', KEYS[1]) or length + 1
if left > length then
  return 1
end
return 1 + math.max(0, waiting(length + 1, false) - left)
