-- retry queues a parked task as if it were new. The script itself removes it from dead.
local function retry(ulid, task)
  local t = base .. 't:' .. ulid
  local earlier = tonumber(redis.call('HGET', t, 'q') or 0) + task.n
  redis.call('HSET', t, 's', S_QUEUED, 'n', 0, 'q', earlier, 'o', micros(0), 'x', now + task.l)
  redis.call('HDEL', t, 'f', 'z', 't', 'A', 'M')
  redis.call('ZADD', TTL, now + task.l, ulid)
  redis.call('RPUSH', READY, ulid)
  publish(ulid, S_QUEUED)
end
