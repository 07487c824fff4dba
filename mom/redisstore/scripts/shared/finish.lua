-- own_key returns the idempotency key of a task, if the task has one that still names it.
local function own_key(ulid, hash)
  local key = hash and base .. 'i:' .. hash
  local named = key and redis.call('GET', key)
  return named and string.sub(named, 1, 26) == ulid and key
end

-- drop deletes the call of a task that has ended. The task's record, and the idempotency key that names
-- the task, stay for keep ms.
local function drop(ulid, task, keep)
  local gone = now + keep
  local size = redis.call('STRLEN', base .. 'p:' .. ulid)
  redis.call('DEL', base .. 'p:' .. ulid)
  count_out(size)
  redis.call('ZADD', GONE, gone, ulid .. ' ' .. task.u)
  redis.call('PEXPIREAT', base .. 't:' .. ulid, gone)
  local key = own_key(ulid, task.k)
  if key then redis.call('PEXPIREAT', key, gone) end
end

-- finish ends a task for good.
local function finish(ulid, task, state, keep)
  local t = base .. 't:' .. ulid
  redis.call('HSET', t, 's', state, 'z', now)
  redis.call('HDEL', t, 'm', 'd')
  redis.call('ZREM', TTL, ulid)
  redis.call('ZREM', LEASE, ulid)
  redis.call('ZREM', LATER, ulid)
  drop(ulid, task, keep)
  publish(ulid, state)
end
