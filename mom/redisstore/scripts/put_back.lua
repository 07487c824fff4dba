-- Lets a leased task that the service has not run wait before its next attempt.
--
-- ARGV: ulid epoch why wait:ms all tombstone:ms     (all is 1 or 0)
-- Returns: the ms until its next attempt, or 'FENCED'. 0 also when this lease has put
--          the task back before, or when its TTL is over.
-- Effect: lease → later, no attempt spent, no mark; EXPIRED when its TTL is over. With all, the
--         keys wait and asked are written, too, for wait ms: until then lease.lua leases nothing.
local task, reply = held(ulid, epoch)
if not task then return reply end
if task.s == S_RETRYING or task.s == S_EXPIRED then return 0 end
if task.s ~= S_RUNNING then return 'FENCED' end

local t = base .. 't:' .. ulid
redis.call('HSET', t, 'f', why)
if task.x <= now then
  finish(ulid, task, S_EXPIRED, tombstone)
  return 0
end
if all == '1' then
  if wait_left() < wait then
    redis.call('SET', base .. 'wait', now + wait, 'PX', wait)
    redis.call('SET', base .. 'asked', now, 'PX', wait)
  end
  wait = wait + 250 -- so another task goes first: the service may refuse only this one
else
  wait = math.min(wait * 2 ^ math.min(task.t, 4), WAIT_MAX)
end
redis.call('HSET', t, 's', S_RETRYING, 'd', now + wait, 't', task.t + 1)
redis.call('HDEL', t, 'm', 'A')
redis.call('ZREM', LEASE, ulid)
redis.call('ZADD', LATER, now + wait, ulid)
redis.call('ZADD', TTL, task.x, ulid) -- again: see give_back
publish(ulid, S_RETRYING)
return wait
