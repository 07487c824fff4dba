-- Parked tasks are those in dead: DEAD or UNCERTAIN, they wait for a person, call
-- and all. What their calls take is counted twice, in bytes and in parked, so that
-- it can be told apart from the calls that wait for their service. The field b of
-- a record is what parked counts for it; a task that an older release has parked
-- has none until count_parked.
local function count_parked(ulid)
  local t, size = base .. 't:' .. ulid, redis.call('STRLEN', base .. 'p:' .. ulid)
  if redis.call('HGET', t, 'b') then return end
  redis.call('HSET', t, 'b', size)
  redis.call('INCRBY', base .. 'parked', size)
end

-- unpark takes a task out of dead. It says whether the task was there.
local function unpark(ulid)
  local there, t = redis.call('LREM', DEAD, 1, ulid) == 1, base .. 't:' .. ulid
  local size = redis.call('HGET', t, 'b')
  if size then
    redis.call('HDEL', t, 'b')
    redis.call('DECRBY', base .. 'parked', size)
  end
  -- Also mends what an older release took out of dead without telling parked.
  if redis.call('EXISTS', DEAD) == 0 then redis.call('DEL', base .. 'parked') end
  return there
end

local function is_parked(task)
  return task.s == S_DEAD or task.s == S_UNCERTAIN
end

-- parked_now returns the bytes that the calls of parked tasks take, and for how
-- many ms the oldest of these tasks has waited.
local function parked_now()
  local oldest = redis.call('LINDEX', DEAD, 0)
  if not oldest then return 0, 0 end
  local since = tonumber(redis.call('HGET', base .. 't:' .. oldest, 'z') or now)
  return math.max(tonumber(redis.call('GET', base .. 'parked') or 0), 0), math.max(now - since, 0)
end
