-- The time to remove a task from a list grows with the length of the list. So when a task leaves dead and
-- dead is long, the task's entry is replaced by a hole: the time at which the task was parked, which place needs to find
-- other tasks. base .. 'holes' counts the holes. Holes at the head are removed. An older release takes
-- a hole for a task without a record, and removes it.
local SHORT = 256

-- place returns the index of a task in dead, which is ordered by the time of parking. It returns
-- nil when the task is not there, or when the order is broken, since the clock was set back.
local function place(ulid)
  local since = parked_since(ulid)
  local low, high = 0, redis.call('LLEN', DEAD)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local there = parked_since(redis.call('LINDEX', DEAD, middle))
    if not (there and since) then return nil end
    if there < since then low = middle + 1 else high = middle end
  end
  for from = low, low + 9 * BATCH, BATCH do -- others of the same millisecond
    for i, other in ipairs(redis.call('LRANGE', DEAD, from, from + BATCH - 1)) do
      if other == ulid then return from + i - 1 end
    end
  end
end

-- vacate removes a task from its place in dead. Returns whether the entries behind it moved up.
local function vacate(index, ulid)
  local since = parked_since(ulid)
  if index == 0 then
    redis.call('LPOP', DEAD)
  -- If the user may not call LSET, as in the release before, LREM removes the task, with more work.
  elseif not since or redis.call('LLEN', DEAD) <= SHORT or redis.pcall('LSET', DEAD, index, since).err then
    redis.call('LREM', DEAD, 1, ulid)
  else
    redis.call('INCRBY', base .. 'holes', 1)
    return false
  end
  return true
end

-- close_up removes holes from the head of dead, at most 100. Returns how many.
local function close_up()
  local closed = 0
  while closed < BATCH do
    local head = redis.call('LINDEX', DEAD, 0)
    if not head then
      -- Also corrects the counts after an older release, which removes entries without counting.
      redis.call('DEL', base .. 'holes', base .. 'parked', base .. 'uncertain')
      break
    end
    if not is_hole(head) then break end
    redis.call('LPOP', DEAD)
    redis.call('DECRBY', base .. 'holes', 1)
    closed = closed + 1
  end
  return closed
end

-- leave ends the counting of a task that has no place in dead any more.
local function leave(ulid)
  local t = base .. 't:' .. ulid
  local size, uncertain = unpack(redis.call('HMGET', t, 'b', 'U'))
  redis.call('HDEL', t, 'b', 'U')
  if size then redis.call('DECRBY', base .. 'parked', size) end
  if uncertain then redis.call('DECRBY', base .. 'uncertain', 1) end
end

-- unpark removes a task from dead. Returns whether the task was there.
local function unpark(ulid)
  local index, there = nil, true
  if redis.call('LLEN', DEAD) > SHORT then index = place(ulid) end
  if index then
    vacate(index, ulid)
  elseif redis.call('HGET', base .. 't:' .. ulid, 'b') or redis.call('EXISTS', base .. 'p:' .. ulid) == 1 then
    there = redis.call('LREM', DEAD, 1, ulid) == 1
  else
    there = false -- it was given up before
  end
  leave(ulid)
  close_up()
  return there
end
