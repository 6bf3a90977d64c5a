-- Publishes one frame once: a repetition, after a lost reply, does nothing.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:frame:<id>  string  the encoded picture; it exists if the frame was published
-- ARGV     picture, its time to live in ms, cap of the queue, then field, value, ... of the entry
-- Returns  1 if this call published the frame, 0 if an earlier one did
--
-- Redis doesn't undo a script that fails half-way. If the entry is refused, the picture has to go, else a repetition would
-- take the frame for published. SET removes it, because that can't be refused: it has just been permitted.
redis.call('XLEN', KEYS[1]) -- fails if the key has another type, before the picture is written
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 0
end
local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 4))
if added.err then
  redis.call('SET', KEYS[2], '', 'PX', 1)
  return added
end
return 1
