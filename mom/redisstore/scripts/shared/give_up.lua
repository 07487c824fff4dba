-- give_up ends the wait of a parked task for a person, and deletes its call. Its state stays, so
-- that readers of the task still get the state. Returns whether the task was parked.
local function give_up(ulid, task, keep)
  if not unpark(ulid) then return false end
  drop(ulid, task, keep)
  return true
end

-- dismiss is give_up by an operator.
local function dismiss(ulid, task, keep)
  local t = base .. 't:' .. ulid
  if not redis.call('HGET', t, 'y') then redis.call('HSET', t, 'y', now) end
  give_up(ulid, task, keep)
end
