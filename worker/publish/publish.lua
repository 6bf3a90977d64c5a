-- Publishes one frame, once: repeated because its reply was lost, it does nothing.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:frame:<id>  string  the encoded picture; that it is there says that the frame was published
-- ARGV     picture, its time to live in ms, cap of the queue, then field, value, ... of the entry
-- Returns  1 if the frame was published by this call, 0 if it was before
redis.call('XLEN', KEYS[1])
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 0
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 4))
return 1
