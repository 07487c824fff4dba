-- Parked tasks are the tasks in dead. They are DEAD or UNCERTAIN, and wait for a person. Their calls
-- are kept, and counted twice, in bytes and in parked, to distinguish them from calls that wait for
-- their service. uncertain counts the UNCERTAIN tasks. In a record, b is the number of bytes that parked counts for
-- the task, and U means that uncertain counts the task. count_parked writes both: tasks that an older
-- release has parked do not have them.
local function count_parked(ulid)
  local t = base .. 't:' .. ulid
  local size, counted, state = unpack(redis.call('HMGET', t, 'b', 'U', 's'))
  if not size then
    size = redis.call('STRLEN', base .. 'p:' .. ulid)
    redis.call('HSET', t, 'b', size)
    redis.call('INCRBY', base .. 'parked', size)
  end
  if state == S_UNCERTAIN and not counted then
    redis.call('HSET', t, 'U', '1')
    redis.call('INCRBY', base .. 'uncertain', 1)
  end
end

local function is_parked(task)
  return task.s == S_DEAD or task.s == S_UNCERTAIN
end

-- is_hole tells whether an entry of dead is a hole, and not a ULID: see unpark.lua.
local function is_hole(entry)
  return #entry < 26
end

-- parked_since is the time at which an entry of dead was parked; nil when its record is gone.
local function parked_since(entry)
  return tonumber(is_hole(entry) and entry or redis.call('HGET', base .. 't:' .. entry, 'z'))
end

-- parked_now returns the bytes that the calls of parked tasks take, and for how
-- many ms the oldest of these tasks has waited.
local function parked_now()
  local oldest = redis.call('LINDEX', DEAD, 0)
  if not oldest then return 0, 0 end
  local since = parked_since(oldest) or now
  return math.max(tonumber(redis.call('GET', base .. 'parked') or 0), 0), math.max(now - since, 0)
end
