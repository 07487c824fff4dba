-- give_up ends the wait of a parked task for a person: its call goes. Its state
-- stays, so whoever reads it goes on to hear what is known. It says whether the
-- task was waiting.
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
