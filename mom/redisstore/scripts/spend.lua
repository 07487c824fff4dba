-- Spends an attempt of a leased task.
--
-- ARGV: ulid epoch failure backoff:ms max_attempts:n tombstone:ms
-- Returns: the state's number, or 'FENCED'. The state also when this lease has
--          spent its attempt before.
-- Effect: lease → later, or dead once all attempts are spent; EXPIRED when its
--         TTL is over.
local task, reply = held(ulid, epoch)
if not task then return reply end
if task.s == S_RETRYING or task.s == S_DEAD or task.s == S_EXPIRED then return task.s end
if task.s ~= S_RUNNING then return 'FENCED' end

local attempts = task.n + 1
if attempts >= max_attempts then
  park(ulid, S_DEAD, attempts, failure)
  return S_DEAD
end
local t = base .. 't:' .. ulid
if task.x <= now then
  redis.call('HSET', t, 'n', attempts, 'f', failure)
  finish(ulid, task, S_EXPIRED, tombstone)
  return S_EXPIRED
end
redis.call('HSET', t, 's', S_RETRYING, 'n', attempts, 'f', failure, 'd', now + backoff)
redis.call('HDEL', t, 'm', 'A')
redis.call('ZREM', LEASE, ulid)
redis.call('ZADD', LATER, now + backoff, ulid)
redis.call('ZADD', TTL, task.x, ulid) -- again: see give_back
publish(ulid, S_RETRYING)
return S_RETRYING
