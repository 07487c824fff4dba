-- finish ends a task for good. Its record stays for so many ms, its call goes.
local function finish(ulid, task, state, keep)
  local t = base .. 't:' .. ulid
  local gone = now + keep
  redis.call('HSET', t, 's', state, 'z', now)
  redis.call('HDEL', t, 'm', 'd')
  local size = redis.call('STRLEN', base .. 'p:' .. ulid)
  redis.call('DEL', base .. 'p:' .. ulid)
  if size > 0 and redis.call('DECRBY', base .. 'bytes', size) <= 0 then redis.call('DEL', base .. 'bytes') end
  redis.call('ZREM', TTL, ulid)
  redis.call('ZREM', LEASE, ulid)
  redis.call('ZREM', LATER, ulid)
  redis.call('ZADD', GONE, gone, ulid .. ' ' .. task.u)
  redis.call('PEXPIREAT', t, gone)
  if task.k then
    local key = base .. 'i:' .. task.k
    local named = redis.call('GET', key)
    if named and string.sub(named, 1, 26) == ulid then redis.call('PEXPIREAT', key, gone) end
  end
  publish(ulid, state)
end
