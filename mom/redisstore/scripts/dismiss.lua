-- Ends the wait of a parked task for a person: nobody will retry it.
--
-- ARGV: ulid tombstone:ms
-- Returns: 'OK', 'NONE' or 'STATE'. 'OK' too when it is dismissed already.
-- Effect: out of dead, its call gone; the state stays until the record expires.
local task, err = load(ulid)
if err then return err end
if not task then return 'NONE' end
if not is_parked(task) then return 'STATE' end
dismiss(ulid, task, tombstone)
return 'OK'
