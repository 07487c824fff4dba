-- park puts a task aside for a person, and keeps its call.
local function park(ulid, state, attempts, failure)
  local t = base .. 't:' .. ulid
  redis.call('HSET', t, 's', state, 'z', now, 'n', attempts, 'f', failure)
  redis.call('HDEL', t, 'm', 'd')
  redis.call('ZREM', TTL, ulid)
  redis.call('ZREM', LEASE, ulid)
  redis.call('ZREM', LATER, ulid)
  redis.call('RPUSH', DEAD, ulid)
  count_parked(ulid)
  publish(ulid, state)
end
