-- Changes limits if all of them still have the values that the caller saw, and notes each change in the audit.
--
-- KEYS: the hashes that are changed, then the audit and the hash of what the tools last saw, if these are on this server.
-- ARGV: the number of hashes, the length of the audit, who, the tool, the batch, and for each change six words: the
--       index of its hash in KEYS, the kind, the name, the old value and the new one ("" for none), the end of a boost.
-- Returns the names of the changes whose old value isn't the present one; if there are any, nothing is changed.

local hashes = tonumber(ARGV[1])
local differing = {}
for at = 6, #ARGV, 6 do
  local value = redis.call('HGET', KEYS[tonumber(ARGV[at])], ARGV[at + 2]) or ''
  if value ~= ARGV[at + 3] then
    differing[#differing + 1] = ARGV[at + 2]
  end
end
if #differing > 0 then
  return differing
end
for at = 6, #ARGV, 6 do
  local hash, kind, name, new = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 4]
  local seen = kind .. ' ' .. name
  if new == '' then
    redis.call('HDEL', hash, name)
  else
    redis.call('HSET', hash, name, new)
  end
  if #KEYS > hashes then
    redis.call('XADD', KEYS[hashes + 1], 'MAXLEN', '~', ARGV[2], '*', 'kind', kind, 'name', name, 'old', ARGV[at + 3],
      'new', new, 'who', ARGV[3], 'tool', ARGV[4], 'until', ARGV[at + 5], 'batch', ARGV[5])
    if new == '' then
      redis.call('HDEL', KEYS[hashes + 2], seen)
    else
      redis.call('HSET', KEYS[hashes + 2], seen, new)
    end
  end
end
return differing
