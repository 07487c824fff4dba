-- Puts a parked task back to the tail of its queue, as if new.
--
-- ARGV: ulid
-- Returns: 'OK', 'NONE', 'STATE', or 'DROPPED' when its call is gone
-- Effect: dead → ready; attempts 0, the earlier attempts are kept in a field of their own; its whole TTL again.
local task, err = load(ulid)
if err then return err end
if not task then return 'NONE' end
if not is_parked(task) then return 'STATE' end
if redis.call('EXISTS', base .. 'p:' .. ulid) == 0 then return 'DROPPED' end
unpark(ulid)
retry(ulid, task)
return 'OK'
