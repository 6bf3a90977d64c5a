-- Notes changes that no tool has made, unless one of them has changed the field since the caller looked.
--
-- KEYS: the hashes of the limits, the audit, the hash of what the tools last saw.
-- ARGV: the length of the audit, the tool, and for each change six words: the index of its hash in KEYS, the kind, the
--       name, the old value and the new one ("" for none), and whether it gets an entry in the audit (1 or 0).

local audit, seen = KEYS[#KEYS - 1], KEYS[#KEYS]
for at = 3, #ARGV, 6 do
  local kind, name, old, new = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local field = kind .. ' ' .. name
  local value = redis.call('HGET', KEYS[tonumber(ARGV[at])], name) or ''
  if value == new and (redis.call('HGET', seen, field) or '') == old then
    if ARGV[at + 5] == '1' then
      redis.call('XADD', audit, 'MAXLEN', '~', ARGV[1], '*', 'kind', kind, 'name', name, 'old', old, 'new', new,
        'who', '', 'tool', ARGV[2], 'until', '', 'batch', '')
    end
    if new == '' then
      redis.call('HDEL', seen, field)
    else
      redis.call('HSET', seen, field, new)
    end
  end
end
redis.call('HSET', seen, 'looked', '1')
return 0
