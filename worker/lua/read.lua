-- Delivers new entries to a consumer and counts them as received, in one step.
--
-- KEYS[1]  {...}:frames      stream  the queue
-- KEYS[2]  {...}:accounting  hash    counters
-- ARGV     group, consumer, the most entries
-- Returns  {seconds, microseconds of the server's clock, entries {id, {field, value, ...}}, the queue's last id}
--
-- Where there is no new entry, all up to the last id were delivered: whoever waits for one, waits for what follows it.
redis.call('HLEN', KEYS[2]) -- a key of another type fails here, before anything is changed
local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
local time = redis.call('TIME')
if reply then
  local entries = reply[1][2]
  redis.call('HINCRBY', KEYS[2], 'received', #entries)
  return {time[1], time[2], entries, entries[#entries][1]}
end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    return {time[1], time[2], {}, info[i + 1]}
  end
end
