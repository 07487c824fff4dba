-- Cancels a task that was never sent, and dismisses a task that is parked.
--
-- ARGV: ulid tombstone:ms
-- Returns: 'OK', 'NONE' or 'STATE'
-- Effect: out of lease, passed over in ready; CANCELLED. A parked task: as
--         dismiss.lua.
local task, err = load(ulid)
if err then return err end
if not task then return 'NONE' end
if task.s == S_CANCELLED then return 'OK' end
if is_parked(task) then
  dismiss(ulid, task, tombstone)
  return 'OK'
elseif not unsent(task) then
  return 'STATE'
end
if task.s == S_QUEUED then pass_over(ulid, task) end
finish(ulid, task, S_CANCELLED, tombstone)
return 'OK'
