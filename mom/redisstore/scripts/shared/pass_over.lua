-- unsent tells whether a task was never sent: it has surely not run.
local function unsent(task)
  return task.n == 0 and (task.s == S_QUEUED or task.s == S_RETRYING or task.s == S_RUNNING and not task.m)
end

-- pass_over gives up the place of a task in ready. The time to remove the entry would grow with the
-- length of the queue. So the entry stays, is counted, and is skipped later, since the task is
-- not QUEUED. The entry stays no longer than the open tasks before it, which all end at some time, and
-- takes a tenth of the memory of the task's record.
local function pass_over(ulid, task)
  redis.call('INCRBY', base .. 'passed', 1)
  -- The last release does not skip ended tasks, but it expires tasks that are past their TTL.
  if task.x > now then redis.call('HSET', base .. 't:' .. ulid, 'x', now) end
end
