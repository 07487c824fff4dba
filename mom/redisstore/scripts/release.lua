-- Gives back a leased task that the service has not seen.
--
-- ARGV: ulid epoch tombstone:ms
-- Returns: 'OK' or 'FENCED'. 'OK' also when the task is back already.
-- Effect: lease → ready, no attempt spent, no mark; EXPIRED when its TTL is over.
local task, reply = held(ulid, epoch)
if not task then return reply end
if task.s == S_QUEUED or task.s == S_EXPIRED then return 'OK' end
if task.s ~= S_RUNNING then return 'FENCED' end
bring_back(ulid, task, tombstone)
return 'OK'
