-- Decides frames where all replicas meet, by the rule of sidecar/fleet/reorder.py.
--
-- A state is a string: five little-endian doubles (slot, last_ts, time, version, base), the number of earlier admissions (one
-- byte), and their ts (doubles). It is stored with the time of the last admission, in Unix seconds by this server's clock, and
-- travels with its age, in seconds.
--
-- KEYS[i]  the state of stream i, `stream_fps_slot:{TAG}:NAME`
-- ARGV[1]  the rule's constants: tolerance, credit in periods, late window, reorder window, shortest TTL (five doubles),
--          the most earlier admissions, and whether the pacing is min-gap (two bytes)
-- ARGV[2]  the channel on which changed states are published
-- ARGV[3]  per key, the state that the replica knows. Version 0: it knows nothing. Version infinity: it admitted frames without
--          Redis, while this server was unreachable.
-- ARGV[4]  per frame: number of its key (unsigned, 4 bytes), ts, fps
--
-- Returns one string; per frame: the reason (one byte) and the state of its stream after it.
-- Publishes one message; per changed key: the length of the key (2 bytes), its state, the key.
--
-- Versions grow with each change of a key. They follow this server's clock, so they grow even if the key expired or was
-- flushed in between.

local ADMITTED, TOO_SOON, PAUSED, DUPLICATE, LATE = 1, 2, 3, 4, 5
local LONGEST_TTL_S = 1e9

local tolerance, credit, late_window, reorder_window, shortest_ttl, most_earlier, min_gap =
  struct.unpack('<dddddBB', ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local now_us = tonumber(time[1]) * 1e6 + tonumber(time[2])

local function next_version(version)
  return math.max(version + 1, now_us)
end

local FIXED = 5 * 8 + 1

local function pack(state, time)
  return struct.pack('<dddddB', state.slot, state.last_ts, time, state.version, state.base, #state.earlier)
    .. struct.pack('<' .. string.rep('d', #state.earlier), unpack(state.earlier))
end

-- Returns the state that starts at this place of the text, its time, and the place after it.
local function unpacked(text, at)
  local state, time, count = {}
  state.slot, state.last_ts, time, state.version, state.base, count, at = struct.unpack('<dddddB', text, at)
  state.earlier = {}
  for place = 1, count do
    state.earlier[place], at = struct.unpack('<d', text, at)
  end
  return state, time, at
end

local function is_state(stored)
  local count = stored and string.byte(stored, FIXED)
  return count and count <= most_earlier and #stored == FIXED + 8 * count
end

-- Returns a stream's state, with these fields added: admitted_at, changed, period. Without a slot it was never admitted.
local function state_of(stored, known, known_age)
  local state = {version = 0}
  if is_state(stored) then
    local admitted_at
    state, admitted_at = unpacked(stored, 1)
    state.admitted_at = admitted_at
    if state.admitted_at > now then
      state.admitted_at = 0 -- this server's clock was set back: how long ago the admission was is unknown
    end
  end
  if known.version <= state.version then
    return state
  end
  local without_redis = known.version == 1 / 0
  if state.slot and without_redis then
    known.version = next_version(state.version)
    known.slot = math.max(state.slot, known.slot)
    known.last_ts = math.max(state.last_ts, known.last_ts)
    known.admitted_at = math.max(state.admitted_at, now - known_age)
    known.earlier = {} -- what was admitted in between isn't known
  else
    -- Nothing is stored, or this server lost what the replica still knows (a failover to a server that lagged).
    known.version = without_redis and next_version(0) or known.version
    known.admitted_at = now - known_age
  end
  known.changed = true
  return known
end

local function slot_after(slot, ts, period)
  if min_gap == 1 then
    return ts
  end
  return math.max(slot + period, ts - credit * period)
end

local function admit(state, slot, last_ts, base, earlier)
  state.slot, state.last_ts, state.base, state.earlier = slot, last_ts, base, earlier
  state.admitted_at, state.changed = now, true
  return ADMITTED
end

-- The twin of reorder._decide_between.
local function decide_between(state, ts, period)
  local earlier = state.earlier
  local slot, base, admitted = state.base, state.base, {earlier[1]}
  local function takes(each)
    if each < slot + period - tolerance then
      return false
    end
    slot = slot_after(slot, each, period)
    admitted[#admitted + 1] = each
    return true
  end
  for place = 1, #earlier do
    if earlier[place] == ts then
      return LATE
    end
  end
  for place = 2, #earlier + 1 do
    local after = earlier[place] or state.last_ts
    if admitted[#admitted] < ts and ts < after and not takes(ts) then
      return LATE
    end
    if not takes(after) then
      return LATE
    end
  end
  admitted[#admitted] = nil -- last_ts
  while #admitted > most_earlier do
    base = slot_after(base, admitted[2], period)
    table.remove(admitted, 1)
  end
  return admit(state, math.max(state.slot, slot), state.last_ts, base, admitted)
end

-- The twin of reorder._append.
local function append(state, slot, ts, period)
  local base = #state.earlier > 0 and state.base or state.slot
  local admitted = state.earlier
  admitted[#admitted + 1] = state.last_ts
  while #admitted > 0 and (admitted[1] < ts - reorder_window or #admitted > most_earlier) do
    table.remove(admitted, 1)
    if #admitted > 0 then
      base = slot_after(base, admitted[1], period)
    end
  end
  return admit(state, slot, ts, #admitted > 0 and base or 0, admitted)
end

-- The twin of reorder.decide, and of schedule.decide within it.
local function decide(state, ts, fps)
  if fps == 0 then
    return PAUSED
  end
  local period = 1 / fps
  state.period = math.max(state.period or 0, period)
  if not state.slot then
    return admit(state, ts, ts, 0, {})
  end
  if ts < state.last_ts and #state.earlier > 0 and state.earlier[1] <= ts then
    return decide_between(state, ts, period)
  end
  if ts <= state.last_ts then
    if ts == state.last_ts then
      return DUPLICATE
    end
    if ts >= state.last_ts - late_window then
      return LATE
    end
    if now < state.admitted_at + period - tolerance then
      return TOO_SOON
    end
    return admit(state, ts, ts, 0, {})
  end
  if ts < state.slot + period - tolerance then
    return TOO_SOON
  end
  return append(state, slot_after(state.slot, ts, period), ts, period)
end

local stored = redis.call('MGET', unpack(KEYS))
local states = {}
local at = 1
for i = 1, #KEYS do
  local known, age
  known, age, at = unpacked(ARGV[3], at)
  states[i] = state_of(stored[i], known, age)
end

-- Returns a state as it travels, packed once for the answer and the message.
local NO_STATE = pack({slot = 0, last_ts = 0, version = 0, base = 0, earlier = {}}, 0)
local function described(state)
  if not state.slot then
    return NO_STATE
  end
  if not state.packed then
    state.packed = pack(state, now - state.admitted_at)
  end
  return state.packed
end

local answers = {}
at = 1
while at <= #ARGV[4] do
  local i, ts, fps
  i, ts, fps, at = struct.unpack('<I4dd', ARGV[4], at)
  local state = states[i]
  local reason = decide(state, ts, fps)
  if reason == ADMITTED then
    state.version = next_version(state.version)
    state.packed = nil
  end
  answers[#answers + 1] = string.char(reason) .. described(state)
end

local changes = {}
for i, key in ipairs(KEYS) do
  local state = states[i]
  if state.changed then
    local ttl = shortest_ttl
    if state.period and 2 * state.period > ttl then
      ttl = math.min(2 * state.period, LONGEST_TTL_S)
    end
    redis.call('SET', key, pack(state, state.admitted_at), 'EX', string.format('%.0f', ttl))
    changes[#changes + 1] = struct.pack('<I2', #key) .. described(state) .. key
  end
end
if #changes > 0 then
  redis.call('PUBLISH', ARGV[2], table.concat(changes))
end
return table.concat(answers)
