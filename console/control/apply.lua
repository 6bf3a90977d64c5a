-- Changes limits if all of them still have the values that the caller saw, and notes each change in the audit.
--
-- KEYS: the hashes that are changed, then the audit and the hash of what the tools last saw, if these are on this server.
-- ARGV: the number of hashes, the length of the audit, who, the tool, the batch, and for each change six words: the
--       index of its hash in KEYS, the kind, the name, the old value and the new one ("" for none), the end of a boost.
-- A field that differs from what the tools last saw was changed by somebody else; that is noted before the change.
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
local audit, seen_hash = KEYS[hashes + 1], KEYS[hashes + 2]
-- Redis doesn't undo a script that fails half-way, so what may be refused is tried before anything is changed.
local looked = audit and redis.call('HGET', seen_hash, 'looked')
for at = 6, #ARGV, 6 do
  local hash = KEYS[tonumber(ARGV[at])]
  if not redis.acl_check_cmd('HSET', hash, 'f', 'v') or not redis.acl_check_cmd('HDEL', hash, 'f') then
    return redis.error_reply('NOPERM this user may not run HSET and HDEL on ' .. hash)
  end
end
if audit and not redis.acl_check_cmd('HSET', seen_hash, 'f', 'v') then
  return redis.error_reply('NOPERM this user may not run HSET on ' .. seen_hash)
end
local function note(kind, name, old, new, who, tool, ends, batch)
  redis.call('XADD', audit, 'MAXLEN', '~', ARGV[2], '*', 'kind', kind, 'name', name, 'old', old, 'new', new, 'who', who,
    'tool', tool, 'until', ends, 'batch', batch)
end
local function set(hash, field, value)
  if value == '' then
    redis.call('HDEL', hash, field)
  else
    redis.call('HSET', hash, field, value)
  end
end
for at = 6, #ARGV, 6 do
  local kind, name, old, new = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local seen = kind .. ' ' .. name
  if audit then
    local before = redis.call('HGET', seen_hash, seen) or ''
    if looked and before ~= old and not (kind == 'boost' and old == '') then
      note(kind, name, before, old, '', 'other', '', '')
    end
    note(kind, name, old, new, ARGV[3], ARGV[4], ARGV[at + 5], ARGV[5])
    set(seen_hash, seen, new)
  end
  set(KEYS[tonumber(ARGV[at])], name, new)
end
return differing
