-- The ULIDs at the head of ready, whether these are all of them, and when these tasks arrived.
-- give_back reads them once, so no task may be taken out of ready after that.
local heads, whole, orders

-- give_back queues a task again, at the head of the queue, but behind all tasks there that came
-- before it: so several that come back keep their order of arrival.
local function give_back(ulid, task)
  local t = base .. 't:' .. ulid
  redis.call('HSET', t, 's', S_QUEUED)
  redis.call('HDEL', t, 'm', 'd')
  redis.call('ZREM', LEASE, ulid)
  redis.call('ZREM', LATER, ulid)
  -- Again: reap.lua set it to inf if the task was past its TTL, on a clock that was set back since.
  redis.call('ZADD', TTL, task.x, ulid)
  if not heads then
    heads, orders = redis.call('LRANGE', READY, 0, BATCH), {}
    whole = #heads <= BATCH
  end
  local at = #heads + 1
  for i, other in ipairs(heads) do
    if not orders[other] then orders[other] = tonumber(redis.call('HGET', base .. 't:' .. other, 'o') or 0) end
    if orders[other] > task.o then
      at = i
      break
    end
  end
  if heads[at] then
    redis.call('LINSERT', READY, 'BEFORE', heads[at], ulid)
  elseif whole then
    redis.call('RPUSH', READY, ulid)
  else
    -- LINSERT finds the first place of a ULID. An ended task that was stored again has two.
    redis.call('LINSERT', READY, 'AFTER', heads[at - 1], ulid)
  end
  table.insert(heads, at, ulid)
  orders[ulid] = task.o
  publish(ulid, S_QUEUED)
end

-- bring_back is give_back for a task whose TTL may be over: then it ends EXPIRED.
local function bring_back(ulid, task, tombstone)
  if task.x <= now then
    finish(ulid, task, S_EXPIRED, tombstone)
  else
    give_back(ulid, task)
  end
end
