-- Does what is due in a shard, at most 100 of each kind.
--
-- ARGV: base tombstone     (tombstone in ms)
-- Returns: ms until something is due next, 60000 at most while tasks wait, since a
--          bell may be lost; 0 when there is more to do now, -1 when nothing will be.
-- Effect: ended leases → ready, or dead as UNCERTAIN when marked and not
--         repeatable; tasks past their TTL EXPIRED; due retries → ready; the
--         callers' lists lose those whose records are gone; rings the bell.
local tombstone = tonumber(ARGV[2])
local more, left = false, 0 -- left: tasks that only a newer release knows
-- Without an open task there is little to look at: an idle shard is cheap.
local open = redis.call('EXISTS', TTL) == 1

local function due(set, offset)
  return redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', offset, BATCH)
end

-- each calls what for each due task of a set, and drops those without a record.
-- Tasks that are left are not in the way of others.
local function each(set, what)
  if not open then return end
  local offset, ulids, passed = 0, nil, nil
  repeat
    ulids, passed = due(set, offset), 0
    for _, ulid in ipairs(ulids) do
      local task, err = load(ulid)
      if task then
        what(ulid, task)
      elseif err then
        passed = passed + 1
      else
        redis.call('ZREM', set, ulid)
      end
    end
    offset = offset + passed
  until passed < BATCH
  left = left + offset
  if #ulids == BATCH then more = true end
end

-- First, since it takes tasks out of ready: see give_back.
each(TTL, function(ulid, task)
  if task.s == S_RUNNING then
    -- It may finish; whoever ends its lease expires it.
    redis.call('ZADD', TTL, 'inf', ulid)
    return
  end
  if task.s == S_QUEUED then redis.call('LREM', READY, 1, ulid) end
  finish(ulid, task, S_EXPIRED, tombstone)
end)

each(LEASE, function(ulid, task)
  if task.m and task.r ~= '1' then
    park(ulid, S_UNCERTAIN, task.n + 1, 'lease ended after the call was sent')
    return
  end
  if task.m then
    task.n = task.n + 1
    redis.call('HSET', base .. 't:' .. ulid, 'n', task.n, 'f', 'lease ended after the call was sent')
  end
  if task.x <= now then
    finish(ulid, task, S_EXPIRED, tombstone)
  else
    give_back(ulid, task)
  end
end)

each(LATER, give_back)

local gone = due(GONE, 0)
if #gone == BATCH then more = true end
for _, member in ipairs(gone) do
  redis.call('ZREM', base .. 'c:' .. string.sub(member, 28), string.sub(member, 1, 26))
  redis.call('ZREM', GONE, member)
end

local waiting = open and redis.call('EXISTS', READY) == 1
-- Between the nodes of a cluster a message may be lost.
if waiting and redis.call('EXISTS', PAUSED) == 0 then ring() end

if more then return 0 end
local next = waiting and 60000 or -1
local function first(set, least)
  local head = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  if head[2] and head[2] ~= 'inf' then
    local wait = math.max(tonumber(head[2]) - now, least)
    if next < 0 or wait < next then next = wait end
  end
end
if open then
  -- What is left stays due: no reason to look all the time.
  local soon = left > 0 and 1000 or 1
  first(LEASE, soon)
  first(TTL, soon)
  first(LATER, soon)
end
-- Trimming a list is not worth waking up for each task.
first(GONE, 1000)
return next
