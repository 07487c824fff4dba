-- unsent tells whether a task was never sent: it has surely not run.
local function unsent(task)
  return task.n == 0 and (task.s == S_QUEUED or task.s == S_RETRYING or task.s == S_RUNNING and not task.m)
end

-- pass_over ends the place of a task in ready. To take it out would cost as much as
-- the queue is long, so it stays, is counted, and is skipped by whoever comes to it:
-- it is not QUEUED. It stays no longer than the open tasks before it, whose lives end,
-- and takes a tenth of what its record takes.
local function pass_over(ulid, task)
  redis.call('INCRBY', base .. 'passed', 1)
  -- The last release does not skip, but it expires what is past its TTL.
  if task.x > now then redis.call('HSET', base .. 't:' .. ulid, 'x', now) end
end
