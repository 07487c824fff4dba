-- Ends the wait of a parked task for a person: the task will not be retried.
--
-- ARGV: ulid tombstone:ms
-- Returns: 'OK', 'NONE' or 'STATE'. 'OK' also when the task is dismissed already.
-- Effect: out of dead, its call gone; the state stays until the record expires.
local task, err = load(ulid)
if err then return err end
if not task then return 'NONE' end
if not is_parked(task) then return 'STATE' end
dismiss(ulid, task, tombstone)
return 'OK'
