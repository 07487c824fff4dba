-- keep_key makes an idempotency key expire with the record of the task that it names.
local function keep_key(ulid, hash, gone)
  local key = base .. 'i:' .. hash
  local named = redis.call('GET', key)
  if named and string.sub(named, 1, 26) == ulid then redis.call('PEXPIREAT', key, gone) end
end

-- count_out counts calls of so many bytes less.
local function count_out(size)
  if size > 0 and redis.call('DECRBY', base .. 'bytes', size) <= 0 then redis.call('DEL', base .. 'bytes') end
end

-- drop deletes the call of a task that has ended. Its record, and the idempotency key that names
-- it, stay for keep ms.
local function drop(ulid, task, keep)
  local gone = now + keep
  local size = redis.call('STRLEN', base .. 'p:' .. ulid)
  redis.call('DEL', base .. 'p:' .. ulid)
  count_out(size)
  redis.call('ZADD', GONE, gone, ulid .. ' ' .. task.u)
  redis.call('PEXPIREAT', base .. 't:' .. ulid, gone)
  if task.k then keep_key(ulid, task.k, gone) end
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
