-- Has the transitions of a task published from now on, until its record is gone, because somebody waits for them.
--
-- ARGV: ulid
-- Effect: L in t:, if there is such a task
if redis.call('EXISTS', base .. 't:' .. ulid) == 1 then redis.call('HSET', base .. 't:' .. ulid, 'L', '1') end
return 'OK'
