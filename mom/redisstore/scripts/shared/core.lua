-- Prepended to every script: the shard's keys, the clock, and functions that nearly all scripts share. The
-- other files here are prepended to the scripts that scripts.go lists for them.
--
-- KEYS are the same for every script: ready dead bell lease later ttl paused gone, and in a cluster a key that never exists.
--
-- ARGV: base     (the beginning of every key of the shard, also of the keys of single
--       tasks: the same hash tag, so the same slot)
--
-- Each name after ARGV, here and in the other scripts, is a local variable: scripts.go
-- declares these variables, and Go passes their values by these names. A
-- name with a unit, such as ttl:ms, is a number. ... means that a list comes behind the
-- names; it begins at ARGV[rest]. Go also replaces the names of shared constants by their
-- values: the states S_QUEUED, S_RUNNING and so on, LAST_STATE, BULK, WAIT_MAX in ms, LEASE_BYTES, NEWEST_RECORD, and RIGHT_WORDS.
--
-- A QUEUED task is in ready, a RUNNING one in lease, a RETRYING one in later, a DEAD or UNCERTAIN
-- one in dead until it is given up. No task is in two of these. Ended tasks may still be in
-- ready, where they are skipped; base .. 'passed' counts them. Open tasks are also in ttl, ended
-- ones whose records expire in gone.
--
-- Fields of t:<ulid>, all short, so that it stays a listpack:
--   v record version   s state            e epoch of the last lease   n attempts
--   m sent mark; a repeatable task counts as marked for as long as it is leased, without this field
--   r repeatable       o order, µs      x expires, ms
--   d next attempt, ms z ended, ms        a answer until, ms p procedure
--   u caller           h cause            f last failure   k key hash
--   b bytes in parked  y dismissed, ms    q attempts before it was retried
--   U counted in uncertain                g kept           j last offer
--   i cancelled because its caller's connection was lost
--   t times put back   A times passed over in a row because it cannot be sent as it is
--   M restored from a backup, while it was open
--   L listened to: somebody waits for its transitions at a MOM other than that of its caller
--   B values from the task's creation, with blanks between: three digits, each 1 or 0, for whether it is
--   repeatable, a caller waits for its answer, and it is kept; the offer; its answer TTL, its TTL and
--   when it was created, in ms. r, g and j are there only when they have changed since. In records of
--   the release before there is no B; they have r, g, j, w (answer TTL), l (TTL) and c (created).
--   for tasks with a key, see Request in store.go: G schema with which the fingerprint was
--   made, H fingerprint of the fields that this schema knows, I came as JSON
local READY, DEAD, BELL, LEASE, LATER, TTL, PAUSED, GONE = unpack(KEYS)

-- Maximum number of entries that a script looks at. BULK is the maximum number of tasks whose state it changes.
-- Both are so small that a script takes about a millisecond: all other commands wait meanwhile.
local BATCH = 100

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- micros is the time in µs plus a few: a string, since the number is too long for Lua's conversion of numbers.
local function micros(later)
  local part = tonumber(clock[2]) + later
  if part < 1e6 then return clock[1] .. string.format('%06d', part) end
  return tonumber(clock[1]) + 1 .. string.format('%06d', part - 1e6)
end

-- text is a whole number as a string. If Lua passes a number, Redis takes a microsecond to write it, and the same numbers come
-- again and again.
local texts = {}
local function text(number)
  local known = texts[number]
  if not known then
    known = string.format('%.0f', number)
    texts[number] = known
  end
  return known
end

-- load returns fields of a task, or nil when there is no such task. The second value is an error
-- reply when this release does not know the version of the record (the version of the call, see
-- Call in task.proto). A damaged record must not stop a script midway, after it has begun to
-- write: missing fields count as 0, so the task counts as expired.
local function load(ulid)
  local v, s, x, o, born, u, e, m, n, k, t, r, L = unpack(redis.call('HMGET', base .. 't:' .. ulid, 'v', 's', 'x', 'o', 'B', 'u', 'e', 'm', 'n', 'k', 't', 'r', 'L'))
  if not v then return nil end
  local version = tonumber(v)
  if not version or version < 1 or version > NEWEST_RECORD then
    return nil, redis.error_reply('HLVERSION record version ' .. v .. ' of task ' .. ulid .. ' is not known')
  end
  local l, w
  if born then
    r = r or string.sub(born, 1, 1)
    w, l = string.match(born, '^%d+ %S+ (%d+) (%d+)')
    if s == S_RUNNING and r == '1' then m = '1' end
  else
    l, w = unpack(redis.call('HMGET', base .. 't:' .. ulid, 'l', 'w'))
  end
  return {
    s = s, e = tonumber(e) and e or '0', n = n and tonumber(n) or 0, m = m, r = tonumber(r) and r or '0', o = tonumber(o) or 0,
    x = tonumber(x) or 0, l = tonumber(l) or 0, w = tonumber(w) or 1, u = u or '', k = k, t = t and tonumber(t) or 0,
    W = born and string.sub(born, 2, 2), L = L,
  }
end

-- alone calls the function what for one of many tasks. If the function fails, on damaged data, the task's reply is the error, and the other tasks are not
-- affected.
local function alone(what, ...)
  local done, reply = pcall(what, ...)
  if done then return reply end
  if type(reply) == 'table' then reply = reply.err end
  if not string.match(reply, '^%u+ ') then reply = 'ERR ' .. reply end -- it is none of Redis
  return redis.error_reply(reply .. ' script: turn') -- as Redis marks what fails in a script
end

-- count_ended counts tasks that have reached a final state, since the store began.
local function count_ended(state, n)
  redis.pcall('INCRBY', base .. 'ended:' .. state, n)
end

-- count_out subtracts the size of calls from bytes.
local function count_out(size)
  if size > 0 and redis.call('DECRBY', base .. 'bytes', size) <= 0 then redis.call('DEL', base .. 'bytes') end
end

-- tell publishes a transition to all MOMs.
local function tell(ulid, state)
  redis.call('PUBLISH', base .. 'events', ulid .. ' ' .. state)
end

-- publish publishes a transition and counts it.
local function publish(ulid, state)
  if state ~= S_QUEUED and state ~= S_RETRYING then count_ended(state, 1) end
  tell(ulid, state)
end

-- ring wakes the replayers of all MOMs. A published transition to QUEUED wakes them as well.
local function ring()
  redis.call('PUBLISH', base .. 'events', 'bell')
end
