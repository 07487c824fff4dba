-- Does what is due in a shard, at most 25 of each kind.
--
-- ARGV: tombstone:ms parked_ttl:ms max_parked_bytes:bytes grace:ms longest_lease:ms
--       longest_backoff:ms from_ttl:tasks from_later:tasks ...
--       (ulid and end of each lease that was not renewed for grace: see
--       shared/end_leases.lua)
-- Returns: {next, given up, bytes of the parked calls, ms since the oldest was parked, from_ttl,
--          from_later, leases to watch}. next is the ms until something is due, 60000 at most
--          while tasks wait, since a bell may be lost; 0 when there is more to do now, -1 when
--          nothing will be due. from_… is how many tasks of a newer release to skip next time.
-- Effect: leases that were watched and are over → ready, or dead as UNCERTAIN when marked and not
--         repeatable; tasks past their TTL EXPIRED, or DEAD when they cannot be sent as they are;
--         due retries → ready; parked tasks are given up when their time or room is used up;
--         records whose time is over are deleted, also from their callers' lists; ended tasks are removed from the
--         head of ready; bytes becomes 0 when no call is left; rings the bell.
local more, left = false, 0 -- left: tasks that only a newer release can read
-- Without an open task there is little to look at: an idle shard is cheap.
local open = redis.call('EXISTS', TTL) == 1

local function due(set, offset)
  return redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', offset, BULK)
end

-- each calls what for each due task of a set, and removes those without a record. Tasks that only
-- a newer release can read are skipped, so that they do not block others. Returns how many of
-- them the next look must skip.
local function each(set, offset, what)
  if not open then return 0 end
  local ulids = due(set, offset)
  for _, ulid in ipairs(ulids) do
    local task, err = load(ulid)
    if task then
      what(ulid, task)
    elseif err then
      offset = offset + 1
    else
      redis.call('ZREM', set, ulid)
    end
  end
  if #ulids == BULK then
    more = true
    return offset
  end
  left = left + offset
  return 0
end

-- has_ended is for tasks that have ended, and that a script which failed midway has left among the open ones: they are taken out of there.
local parked_states = {[S_DEAD] = true, [S_UNCERTAIN] = true}
local ended_states = {[S_SUCCEEDED] = true, [S_FAILED] = true, [S_CANCELLED] = true, [S_EXPIRED] = true}
local function has_ended(ulid, task)
  if not ended_states[task.s] and not parked_states[task.s] then return false end
  redis.call('ZREM', TTL, ulid)
  redis.call('ZREM', LEASE, ulid)
  redis.call('ZREM', LATER, ulid)
  if ended_states[task.s] then
    drop(ulid, task, task.w + tombstone)
  else
    redis.call('RPUSH', DEAD, ulid) -- park does so after it has taken it out of there
    count_parked(ulid)
  end
  return true
end

-- This and the next step come first: the next one takes tasks out of ready, see give_back.
from_ttl = each(TTL, from_ttl, function(ulid, task)
  if has_ended(ulid, task) then return end
  if task.s == S_RUNNING then
    -- It may still finish. When its lease ends unfinished, it expires. A script that failed midway may have left it without one.
    redis.call('ZADD', LEASE, 'NX', now, ulid)
    redis.call('ZADD', TTL, 'inf', ulid)
    return
  end
  if task.s == S_RETRYING and redis.call('HGET', base .. 't:' .. ulid, 'A') then
    -- It waited only because it cannot be sent as it is: see bypass.lua. A person may correct that.
    park(ulid, S_DEAD, task.n, redis.call('HGET', base .. 't:' .. ulid, 'f') or '')
    return
  end
  if task.s == S_QUEUED then pass_over(ulid, task) end
  finish(ulid, task, S_EXPIRED, tombstone)
end)

if redis.call('EXISTS', base .. 'passed') == 1 then
  if redis.call('EXISTS', TTL) == 0 then
    -- No task is open: all that are left in ready have ended.
    redis.call('DEL', READY, base .. 'passed')
  else
    for i = 1, BATCH do
      local head = redis.call('LINDEX', READY, 0)
      if not head or redis.call('HGET', base .. 't:' .. head, 's') == S_QUEUED then break end
      redis.call('LPOP', READY)
      skipped()
      if i == BATCH then more = true end
    end
  end
end

-- Entries that are due too late, since the clock was set back.
if open and soonest(LEASE, longest_lease) then more = true end
if open and soonest(LATER, longest_backoff) then more = true end

local ripe = {}
for i = rest, #ARGV, 2 do ripe[ARGV[i]] = ARGV[i + 1] end
local more_leases, watch = end_leases(grace, ripe, function(ulid, task)
  if has_ended(ulid, task) then return end
  if task.m and task.r ~= '1' then
    park(ulid, S_UNCERTAIN, task.n + 1, 'lease ended after the call was sent')
    return
  end
  if task.m then
    task.n = task.n + 1
    redis.call('HSET', base .. 't:' .. ulid, 'n', task.n, 'f', 'lease ended after the call was sent')
  end
  bring_back(ulid, task, tombstone)
end)

if more_leases then more = true end

from_later = each(LATER, from_later, function(ulid, task)
  if not has_ended(ulid, task) then give_back(ulid, task) end
end)

local given_up, parked_next = reap_parked(parked_ttl, max_parked_bytes, tombstone)
if parked_next == 0 then more = true end

local gone = due(GONE, 0)
if #gone == BULK then more = true end
for _, member in ipairs(gone) do
  local ulid = string.sub(member, 1, 26)
  local key = own_key(ulid, redis.call('HGET', base .. 't:' .. ulid, 'k'))
  if key then redis.call('DEL', key) end
  redis.call('DEL', base .. 't:' .. ulid)
  redis.call('ZREM', base .. 'c:' .. string.sub(member, 28), ulid)
  redis.call('ZREM', GONE, member)
end

-- How long a call was that somebody has deleted together with its record, nobody knows. So it is counted until no call is left.
if redis.call('EXISTS', TTL, DEAD) == 0 then redis.call('DEL', base .. 'bytes') end

local waiting = open and redis.call('EXISTS', READY) == 1
if not waiting then
  redis.call('DEL', BELL)
elseif redis.call('EXISTS', PAUSED) == 0 then
  ring() -- again, since a message between the nodes of a cluster may be lost
end

local parked, parked_for = parked_now()
if more then return {0, given_up, parked, parked_for, from_ttl, from_later, watch} end
local next = waiting and 60000 or -1
local function first(set, least)
  local head = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  if head[2] and head[2] ~= 'inf' then
    local wait = math.max(tonumber(head[2]) - now, least)
    if next < 0 or wait < next then next = wait end
  end
end
if open then
  -- Tasks of a newer release stay due. For them it is enough to look every second.
  local soon = left > 0 and 1000 or 1
  -- Leases that end earlier are watched.
  local lease = redis.call('ZRANGEBYSCORE', LEASE, '(' .. now + grace, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if lease and (next < 0 or lease - grace - now < next) then next = lease - grace - now end
  first(TTL, soon)
  first(LATER, soon)
end
-- Trimming a list is not worth waking up for each task.
first(GONE, 1000)
if parked_next > 0 then
  local wait = math.max(parked_next, 1000)
  if next < 0 or wait < next then next = wait end
end
return {next, given_up, parked, parked_for, from_ttl, from_later, watch}
