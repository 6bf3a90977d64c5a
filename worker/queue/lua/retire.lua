-- Deletes consumers that hold nothing: the one of this name, and all that were silent for long. (Deleting a consumer that
-- holds entries would lose them.)
--
-- KEYS[1]  {...}:frames  stream  the queue
-- ARGV     group, name of a consumer or empty, idle milliseconds
-- Returns  the names of the deleted consumers
local retired = {}
local consumers = redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
for i = 1, #consumers do
  local about = {}
  for j = 1, #consumers[i], 2 do
    about[consumers[i][j]] = consumers[i][j + 1]
  end
  if about['pending'] == 0 and (about['name'] == ARGV[2] or about['idle'] > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about['name'])
    retired[#retired + 1] = about['name']
  end
end
return retired
