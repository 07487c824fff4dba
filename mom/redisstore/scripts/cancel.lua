-- Cancels a task that was never sent, or that waits for a person.
--
-- ARGV: base ulid tombstone     (tombstone in ms)
-- Returns: 'OK', 'NONE' or 'STATE'
-- Effect: out of lease or dead, passed over in ready; CANCELLED.
local ulid = ARGV[2]
local task, err = load(ulid)
if err then return err end
if not task then return 'NONE' end
if task.s == S_CANCELLED then return 'OK' end
if task.s == S_DEAD or task.s == S_UNCERTAIN then
  redis.call('LREM', DEAD, 1, ulid)
elseif not unsent(task) then
  return 'STATE'
end
if task.s == S_QUEUED then pass_over(ulid, task) end
finish(ulid, task, S_CANCELLED, tonumber(ARGV[3]))
return 'OK'
