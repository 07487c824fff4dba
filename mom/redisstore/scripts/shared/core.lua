-- Prepended to every script: the shard's keys, the clock, and what nearly all scripts share. The
-- other files here are prepended to the scripts that scripts.go lists for them.
--
-- KEYS are the same for every script: ready dead bell lease later ttl paused gone.
--
-- ARGV: base     (what every key of the shard begins with, and so the keys of single
--       tasks: the same hash tag, so the same slot)
--
-- Each name after ARGV, here and in the other scripts, is a local variable: scripts.go
-- declares them, and puts the values that Go gives by these names into their places. A
-- name with a unit, such as ttl:ms, is a number. Behind the names may come a list, as ...
-- says; it begins at ARGV[rest]. What Lua shares with Go is declared there too: the states
-- S_QUEUED, S_RUNNING and so on, BULK, WAIT_MAX in ms, and NEWEST_RECORD.
--
-- A QUEUED task is in ready, a RUNNING one in lease, a RETRYING one in later, a DEAD or UNCERTAIN
-- one in dead until it is given up. No task is in two of these. Ended tasks may still be in
-- ready, where they are skipped; base .. 'passed' counts them. Open tasks are also in ttl, ended
-- ones whose records expire in gone.
--
-- Fields of t:<ulid>, all short, so that it stays a listpack:
--   v record version   s state            e epoch          n attempts
--   m sent mark        r repeatable       o order, µs      c created, ms
--   x expires, ms      l time to live, ms w answer TTL, ms d next attempt, ms
--   z ended, ms        a answer until, ms p procedure      u caller
--   h cause            f last failure     k key hash       g kept
--   b bytes in parked  y dismissed, ms     q attempts before it was retried
--   U counted in uncertain
--   j last offer       i cancelled because its caller's connection was lost
--   t times put back   A times passed over in a row because it cannot be sent as it is
--   M restored from a backup, while it was open
--   of tasks with a key, see Request in store.go: G schema by which the fingerprint was
--   made, H fingerprint of the fields that this schema knows, I came as JSON
local READY, DEAD, BELL, LEASE, LATER, TTL, PAUSED, GONE = unpack(KEYS)

-- Maximum number of entries that a script looks at. BULK is that of tasks whose state it changes.
-- Both are so small that a script takes about a millisecond: all other commands wait meanwhile.
local BATCH = 100

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- A string: microseconds are too long for Lua's conversion of numbers.
local now_us = clock[1] .. string.format('%06d', tonumber(clock[2]))

-- load returns fields of a task, or nil when there is no such task. The second value is an error
-- reply when this release does not know the version of the record, which is that of the call, see
-- Call in task.proto. A damaged record must not stop a script midway, after it has begun to
-- write: missing fields count as 0, and so the task has expired.
local function load(ulid)
  local v = redis.call('HMGET', base .. 't:' .. ulid, 'v', 's', 'e', 'n', 'm', 'r', 'o', 'x', 'l', 'w', 'u', 'k', 't')
  if not v[1] then return nil end
  local version = tonumber(v[1])
  if not version or version < 1 or version > NEWEST_RECORD then
    return nil, redis.error_reply('HLVERSION record version ' .. v[1] .. ' of task ' .. ulid .. ' is not known')
  end
  return {
    s = v[2], e = tonumber(v[3]) and v[3] or '0', n = tonumber(v[4]) or 0, m = v[5], r = tonumber(v[6]) and v[6] or '0', o = tonumber(v[7]) or 0,
    x = tonumber(v[8]) or 0, l = tonumber(v[9]) or 0, w = tonumber(v[10]) or 1, u = v[11] or '', k = v[12],
    t = tonumber(v[13]) or 0,
  }
end

local function publish(ulid, state)
  redis.call('PUBLISH', base .. 'events', ulid .. ' ' .. state)
end

-- ring wakes the replayers of all MOMs. A transition to QUEUED wakes them as well.
local function ring()
  redis.call('PUBLISH', base .. 'events', 'bell')
end
