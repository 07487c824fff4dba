-- Retries a batch of parked tasks.
--
-- ARGV: uncertain from:n before:n     (uncertain: 1 retries UNCERTAIN tasks, too; from and before
--       are places in dead, before is 0 at first)
-- Returns: {retried, from, before} to go on with; from and before are -1 at the end
-- Effect: as retry, for some of the tasks between these places. before is where dead ended when the first
--         batch began: tasks that die again meanwhile stay dead. before is a place and not a time, since
--         the clock may have been set back after tasks were parked.
if before == 0 then before = redis.call('LLEN', DEAD) end
local retried = 0

local function vacated(ulid)
  if vacate(from, ulid) then before = before - 1 else from = from + 1 end
end

local entries = redis.call('LRANGE', DEAD, from, math.min(from + BULK, before) - 1)
for _, ulid in ipairs(entries) do
  local task, err = load(ulid)
  if task and is_parked(task) and (uncertain == '1' or task.s == S_DEAD) then
    vacated(ulid)
    leave(ulid)
    retry(ulid, task)
    retried = retried + 1
  elseif is_hole(ulid) or task or err then
    from = from + 1
  else
    vacated(ulid)
  end
end
local closed = close_up()
from, before = math.max(from - closed, 0), before - closed
if #entries == 0 or from >= before then from, before = -1, -1 end
return {retried, from, before}
