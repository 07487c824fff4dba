-- Ends a leased task with its answer.
--
-- ARGV: ulid epoch state answer tombstone:ms
-- Returns: 'OK' or 'FENCED'. 'OK' too when this lease has settled it before.
-- Effect: a: written for the answer's TTL, p: gone; t: and i: outlive the answer
--         by the tombstone.
local task, reply = held(ulid, epoch)
if not task then return reply end
if task.s == S_SUCCEEDED or task.s == S_FAILED then return 'OK' end
if task.s ~= S_RUNNING then return 'FENCED' end
redis.call('SET', base .. 'a:' .. ulid, answer, 'PX', task.w)
redis.call('HSET', base .. 't:' .. ulid, 'a', now + task.w)
if task.m then redis.call('HSET', base .. 't:' .. ulid, 'n', task.n + 1) end
finish(ulid, task, state, task.w + tombstone)
return 'OK'
