-- Puts a parked task back to the tail of its queue, as if new.
--
-- ARGV: base ulid
-- Returns: 'OK', 'NONE' or 'STATE'
-- Effect: dead → ready; attempts 0, its whole TTL again.
local ulid = ARGV[2]
local task, err = load(ulid)
if err then return err end
if not task then return 'NONE' end
if task.s ~= S_DEAD and task.s ~= S_UNCERTAIN then return 'STATE' end
redis.call('LREM', DEAD, 1, ulid)
revive(ulid, task)
return 'OK'
