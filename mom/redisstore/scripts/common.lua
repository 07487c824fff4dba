-- Prepended to every script: the shard's keys, the clock, and what several
-- transitions share.
--
-- KEYS are the same for every script: ready dead bell lease later ttl paused gone.
-- ARGV[1] is the shard's prefix, from which the keys of single tasks follow
-- (same hash tag, so same slot).
--
-- A task that is QUEUED lies in ready, RUNNING in lease, RETRYING in later,
-- DEAD or UNCERTAIN in dead; never in two of them. The open ones are also in
-- ttl, the ended ones that expire in gone.
--
-- Fields of t:<ulid>, all short, so that it stays a listpack:
--   v record version   s state            e epoch          n attempts
--   m sent mark        r repeatable       o order, µs      c created, ms
--   x expires, ms      l time to live, ms w answer TTL, ms d next attempt, ms
--   z ended, ms        a answer until, ms p procedure      u caller
--   h cause            f last failure     k key hash       g kept
local READY, DEAD, BELL, LEASE, LATER, TTL, PAUSED, GONE = unpack(KEYS)
local base = ARGV[1]

local VERSION = '1'
local S_QUEUED, S_RUNNING, S_RETRYING = '1', '2', '3'
local S_SUCCEEDED, S_FAILED, S_CANCELLED, S_EXPIRED, S_DEAD, S_UNCERTAIN = '4', '5', '6', '7', '8', '9'
local BELL_MAX = 16
local BATCH = 100

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- A string: microseconds are too long for Lua's conversion of numbers.
local now_us = clock[1] .. string.format('%06d', tonumber(clock[2]))

-- load reads fields of a task: nil when there is no such task. Its second value
-- is an error reply when another release wrote the record in a way unknown here.
local function load(ulid)
  local v = redis.call('HMGET', base .. 't:' .. ulid, 'v', 's', 'e', 'n', 'm', 'r', 'o', 'x', 'l', 'w', 'u', 'k')
  if not v[1] then return nil end
  if v[1] ~= VERSION then
    return nil, redis.error_reply('HLVERSION record version ' .. v[1] .. ' of task ' .. ulid .. ' is not known')
  end
  return {
    s = v[2], e = v[3], n = tonumber(v[4]), m = v[5], r = v[6], o = tonumber(v[7]),
    x = tonumber(v[8]), l = tonumber(v[9]), w = tonumber(v[10]), u = v[11], k = v[12],
  }
end

local function publish(ulid, state)
  redis.call('PUBLISH', base .. 'events', ulid .. ' ' .. state)
end

local function ring()
  if redis.call('LLEN', BELL) < BELL_MAX then redis.call('RPUSH', BELL, '1') end
end

-- What lies at the head of the queue, and since when; read once, by give_back.
-- Nothing may be taken out of ready after that.
local heads, orders

-- give_back queues a task again, before those that came after it: at the head,
-- but in the order of arrival when several come back.
local function give_back(ulid, task)
  local t = base .. 't:' .. ulid
  redis.call('HSET', t, 's', S_QUEUED)
  redis.call('HDEL', t, 'm', 'd')
  redis.call('ZREM', LEASE, ulid)
  redis.call('ZREM', LATER, ulid)
  if not heads then heads, orders = redis.call('LRANGE', READY, 0, BATCH), {} end
  local at = #heads + 1
  for i, other in ipairs(heads) do
    if not orders[other] then orders[other] = tonumber(redis.call('HGET', base .. 't:' .. other, 'o') or 0) end
    if orders[other] > task.o then
      at = i
      break
    end
  end
  if heads[at] then
    redis.call('LINSERT', READY, 'BEFORE', heads[at], ulid)
  elseif at > 1 then
    redis.call('LINSERT', READY, 'AFTER', heads[at - 1], ulid)
  else
    redis.call('RPUSH', READY, ulid)
  end
  table.insert(heads, at, ulid)
  orders[ulid] = task.o
  publish(ulid, S_QUEUED)
end

-- finish ends a task for good. Its record stays for so many ms, its call goes.
local function finish(ulid, task, state, keep)
  local t = base .. 't:' .. ulid
  local gone = now + keep
  redis.call('HSET', t, 's', state, 'z', now)
  redis.call('HDEL', t, 'm', 'd')
  redis.call('DEL', base .. 'p:' .. ulid)
  redis.call('ZREM', TTL, ulid)
  redis.call('ZREM', LEASE, ulid)
  redis.call('ZREM', LATER, ulid)
  redis.call('ZADD', GONE, gone, ulid .. ' ' .. task.u)
  redis.call('PEXPIREAT', t, gone)
  if task.k then
    local key = base .. 'i:' .. task.k
    local named = redis.call('GET', key)
    if named and string.sub(named, 1, 26) == ulid then redis.call('PEXPIREAT', key, gone) end
  end
  publish(ulid, state)
end

-- park puts a task aside for a person, call and all.
local function park(ulid, state, attempts, failure)
  local t = base .. 't:' .. ulid
  redis.call('HSET', t, 's', state, 'z', now, 'n', attempts, 'f', failure)
  redis.call('HDEL', t, 'm', 'd')
  redis.call('ZREM', TTL, ulid)
  redis.call('ZREM', LEASE, ulid)
  redis.call('ZREM', LATER, ulid)
  redis.call('RPUSH', DEAD, ulid)
  publish(ulid, state)
end

-- revive makes a parked task new again; the caller takes it out of dead.
local function revive(ulid, task)
  local t = base .. 't:' .. ulid
  redis.call('HSET', t, 's', S_QUEUED, 'n', 0, 'o', now_us, 'x', now + task.l)
  redis.call('HDEL', t, 'f', 'z')
  redis.call('ZADD', TTL, now + task.l, ulid)
  redis.call('RPUSH', READY, ulid)
  publish(ulid, S_QUEUED)
end

-- held loads a task for the holder of a lease. Without one it returns nil and
-- what the script should return.
local function held(ulid, epoch)
  local task, err = load(ulid)
  if err then return nil, err end
  if not task or task.e ~= epoch then return nil, 'FENCED' end
  return task
end
