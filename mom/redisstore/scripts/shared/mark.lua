-- Marks leased tasks that are not repeatable as about to be sent. For each task: ulid, epoch.
--
-- Returns: for each task 'OK', 'FENCED', or an error.
-- Effect: the mark, once. A task that is not repeatable any more never becomes repeatable again; if it may have run before, it
--         is not marked, but becomes UNCERTAIN, no attempt spent.
local function mark(ulid, epoch)
  local task, reply = rare().held(ulid, epoch)
  if not task then return reply end
  if task.s ~= S_RUNNING then return 'FENCED' end
  if task.r == '1' and task.n > 0 then -- lease.lua has marked it
    redis.call('HSET', base .. 't:' .. ulid, 'r', '0')
    rare().park(ulid, S_UNCERTAIN, task.n, 'its method may not run twice any more')
    return 'FENCED'
  end
  if task.r == '1' then redis.call('HSET', base .. 't:' .. ulid, 'r', '0') end
  redis.call('HSET', base .. 't:' .. ulid, 'm', '1')
  return 'OK'
end

-- mark_all marks count tasks, whose arguments begin at the given place. Returns the place behind them.
local function mark_all(count, at, replies)
  for i = at, at + 2 * count - 1, 2 do replies[#replies + 1] = alone(mark, ARGV[i], ARGV[i + 1]) end
  return at + 2 * count
end
