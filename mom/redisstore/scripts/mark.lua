-- Marks a leased task as about to be sent.
--
-- ARGV: ulid epoch repeatable     (repeatable is 1 or 0)
-- Returns: 'OK' or 'FENCED'
-- Effect: the mark, once. A task that is not repeatable any more stays so. If it may have run
--         before, it is not marked, but UNCERTAIN, no attempt spent.
local t = base .. 't:' .. ulid
local task, reply = held(ulid, epoch)
if not task then return reply end
if task.s ~= S_RUNNING then return 'FENCED' end
if repeatable == '0' and task.r == '1' then
  redis.call('HSET', t, 'r', '0')
  if task.n > 0 and not task.m then
    park(ulid, S_UNCERTAIN, task.n, 'its method may not run twice any more')
    return 'FENCED'
  end
end
redis.call('HSET', t, 'm', '1')
return 'OK'
