-- Ends the wait of a parked task for a person: nobody will retry it.
--
-- ARGV: base ulid tombstone     (tombstone in ms)
-- Returns: 'OK', 'NONE' or 'STATE'. 'OK' too when it is dismissed already.
-- Effect: out of dead, its call gone; the state stays until the record expires.
local ulid = ARGV[2]
local task, err = load(ulid)
if err then return err end
if not task then return 'NONE' end
if not is_parked(task) then return 'STATE' end
dismiss(ulid, task, tonumber(ARGV[3]))
return 'OK'
