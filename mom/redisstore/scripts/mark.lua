-- Marks a leased task as about to be sent.
--
-- ARGV: base ulid epoch
-- Returns: 'OK' or 'FENCED'
-- Effect: the mark, once.
local ulid = ARGV[2]
local task, reply = held(ulid, ARGV[3])
if not task then return reply end
if task.s ~= S_RUNNING then return 'FENCED' end
redis.call('HSET', base .. 't:' .. ulid, 'm', '1')
return 'OK'
