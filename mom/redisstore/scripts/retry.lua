-- Spends an attempt of a leased task.
--
-- ARGV: base ulid epoch failure backoff max_attempts tombstone     (times in ms)
-- Returns: the state's number, or 'FENCED'. The state too when this lease has
--          spent its attempt before.
-- Effect: lease → later, or dead once all attempts are spent; EXPIRED when its
--         TTL is over.
local ulid, failure, backoff, max = ARGV[2], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local task, reply = held(ulid, ARGV[3])
if not task then return reply end
if task.s == S_RETRYING or task.s == S_DEAD or task.s == S_EXPIRED then return task.s end
if task.s ~= S_RUNNING then return 'FENCED' end

local attempts = task.n + 1
if attempts >= max then
  park(ulid, S_DEAD, attempts, failure)
  return S_DEAD
end
local t = base .. 't:' .. ulid
if task.x <= now then
  redis.call('HSET', t, 'n', attempts, 'f', failure)
  finish(ulid, task, S_EXPIRED, tonumber(ARGV[7]))
  return S_EXPIRED
end
redis.call('HSET', t, 's', S_RETRYING, 'n', attempts, 'f', failure, 'd', now + backoff)
redis.call('HDEL', t, 'm', 'A')
redis.call('ZREM', LEASE, ulid)
redis.call('ZADD', LATER, now + backoff, ulid)
redis.call('ZADD', TTL, task.x, ulid) -- again: see give_back
publish(ulid, S_RETRYING)
return S_RETRYING
