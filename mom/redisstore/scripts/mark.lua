-- Marks a leased task as about to be sent.
--
-- ARGV: base ulid epoch repeatable     (1 or 0; the last release does not say)
-- Returns: 'OK' or 'FENCED'
-- Effect: the mark, once. A task that is not repeatable any more is so for good; one
--         that may have run before is not marked, but UNCERTAIN, no attempt spent.
local ulid, t = ARGV[2], base .. 't:' .. ARGV[2]
local task, reply = held(ulid, ARGV[3])
if not task then return reply end
if task.s ~= S_RUNNING then return 'FENCED' end
if ARGV[4] == '0' and task.r == '1' then
  redis.call('HSET', t, 'r', '0')
  if task.n > 0 and not task.m then
    park(ulid, S_UNCERTAIN, task.n, 'its method may not run twice any more')
    return 'FENCED'
  end
end
redis.call('HSET', t, 'm', '1')
return 'OK'
