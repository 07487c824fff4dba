-- Passes over a leased task that cannot be sent as it is.
--
-- ARGV: ulid epoch why wait:ms     (wait is 0 when the task can never be sent)
-- Returns: the ms until the task is looked at again, or 'FENCED'. 0 also when this lease has
--          passed it over before, or when the task is parked.
-- Effect: lease → later, no attempt spent, no mark; the task waits twice as long each time, up to 128
--         times the wait. DEAD when its TTL is over or it can never be sent; reap.lua parks it,
--         too, when its TTL ends meanwhile. Its token of the rate limit is given back, since the task
--         was not sent.
local task, reply = held(ulid, epoch)
if not task then return reply end
if task.s == S_RETRYING or task.s == S_DEAD then return 0 end
if task.s ~= S_RUNNING then return 'FENCED' end

local rate, hand = unpack(redis.call('HMGET', base .. 'limits', 'r', 'b'))
if rate and hand then redis.call('HSET', base .. 'limits', 'b', tonumber(hand) + 1) end -- lease.lua bounds it

local t = base .. 't:' .. ulid
if wait == 0 or task.x <= now then
  park(ulid, S_DEAD, task.n, why)
  return 0
end
local times = tonumber(redis.call('HGET', t, 'A') or 0)
wait = math.min(wait * 2 ^ math.min(times, 7), WAIT_MAX)
redis.call('HSET', t, 's', S_RETRYING, 'f', why, 'd', now + wait, 'A', times + 1)
redis.call('HDEL', t, 'm')
redis.call('ZREM', LEASE, ulid)
redis.call('ZADD', LATER, now + wait, ulid)
redis.call('ZADD', TTL, task.x, ulid) -- again: see give_back
publish(ulid, S_RETRYING)
return wait
