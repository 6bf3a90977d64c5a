-- Claims frames for their streams: the rule of sidecar/schedule.py, decided where all replicas meet.
--
-- KEYS[i]  the state of stream i, `stream_fps_slot:{TAG}:NAME`, a string of four little-endian doubles:
--          slot, last_ts, admitted_at (Unix seconds by this server's clock), version
-- ARGV[1]  the rule's constants: tolerance, credit in periods, late window, shortest TTL (four doubles), and whether
--          pacing is min-gap (one byte)
-- ARGV[2]  the channel for the states that change here
-- ARGV[3]  per key, what the replica knows: slot, last_ts, age (seconds since the admission), version. Version 0: it knows
--          nothing. Infinity: it admitted frames by itself while this server was out of reach.
-- ARGV[4]  per frame: number of its key (unsigned, 4 bytes), ts, fps
--
-- Returns one string; per frame: reason (one byte), then slot, last_ts, age and version of its stream after it.
-- Publishes one message; per changed key: length of the key (2 bytes), slot, last_ts, age, version, the key.
--
-- Versions grow with each change of a key. They follow this server's clock, so they go on growing when the key
-- expired or was flushed.

local ADMITTED, TOO_SOON, PAUSED, DUPLICATE, LATE = 1, 2, 3, 4, 5
local LONGEST_TTL_S = 1e9

local tolerance, credit, late_window, shortest_ttl, min_gap = struct.unpack('<ddddB', ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local now_us = tonumber(time[1]) * 1e6 + tonumber(time[2])

local function next_version(version)
  return math.max(version + 1, now_us)
end

-- A stream's state here: {slot, last_ts, admitted_at, version, changed, period}; no slot means never admitted.
local function state_of(stored, known_slot, known_last_ts, known_age, known_version)
  local state = {version = 0}
  if stored and #stored == 32 then
    state.slot, state.last_ts, state.admitted_at, state.version = struct.unpack('<dddd', stored)
    if state.admitted_at > now then
      state.admitted_at = 0 -- this server's clock was set back: the admission was longer ago than anybody can tell
    end
  end
  if known_version <= state.version then
    return state
  end
  local admitted_alone = known_version == 1 / 0
  if state.slot and admitted_alone then
    state.slot = math.max(state.slot, known_slot)
    state.last_ts = math.max(state.last_ts, known_last_ts)
    state.admitted_at = math.max(state.admitted_at, now - known_age)
  else
    -- Nothing is stored, or this server lost what the replica still knows (a failover to a server that lagged).
    state.slot, state.last_ts, state.admitted_at = known_slot, known_last_ts, now - known_age
  end
  state.version = admitted_alone and next_version(state.version) or known_version
  state.changed = true
  return state
end

local function admit(state, slot, ts)
  state.slot, state.last_ts, state.admitted_at, state.changed = slot, ts, now, true
  return ADMITTED
end

-- The twin of schedule.decide, line by line.
local function decide(state, ts, fps)
  if fps == 0 then
    return PAUSED
  end
  local period = 1 / fps
  state.period = math.max(state.period or 0, period)
  if not state.slot then
    return admit(state, ts, ts)
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
    return admit(state, ts, ts)
  end
  if ts < state.slot + period - tolerance then
    return TOO_SOON
  end
  if min_gap == 1 then
    return admit(state, ts, ts)
  end
  return admit(state, math.max(state.slot + period, ts - credit * period), ts)
end

local stored = redis.call('MGET', unpack(KEYS))
local states = {}
local at = 1
for i = 1, #KEYS do
  local slot, last_ts, age, version
  slot, last_ts, age, version, at = struct.unpack('<dddd', ARGV[3], at)
  states[i] = state_of(stored[i], slot, last_ts, age, version)
end

-- A state as it travels, packed once for the answer and the message.
local function described(state)
  if not state.slot then
    return struct.pack('<dddd', 0, 0, 0, 0)
  end
  if not state.packed then
    state.packed = struct.pack('<dddd', state.slot, state.last_ts, now - state.admitted_at, state.version)
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
    local value = struct.pack('<dddd', state.slot, state.last_ts, state.admitted_at, state.version)
    redis.call('SET', key, value, 'EX', string.format('%.0f', ttl))
    changes[#changes + 1] = struct.pack('<I2', #key) .. described(state) .. key
  end
end
if #changes > 0 then
  redis.call('PUBLISH', ARGV[2], table.concat(changes))
end
return table.concat(answers)
