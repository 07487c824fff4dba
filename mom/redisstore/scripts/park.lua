-- Ends the lease of a task that may have run and must not run twice.
--
-- ARGV: ulid epoch failure
-- Returns: 'OK' or 'FENCED'. 'OK' also when the task is UNCERTAIN already.
-- Effect: lease → dead, an attempt spent.
local task, reply = held(ulid, epoch)
if not task then return reply end
if task.s == S_UNCERTAIN then return 'OK' end
if task.s ~= S_RUNNING then return 'FENCED' end
park(ulid, S_UNCERTAIN, task.n + 1, failure)
return 'OK'
