-- Leases up to n tasks from the head of the queue, including those that add.lua has leased as they came.
--
-- ARGV: n:tasks again:tasks once:tasks duration:ms epoch
--       (again is how many may be tasks that have failed before, or -1 if none may be tasks that have failed or were refused before; once is how many may be
--       tasks that may not run twice; no other lease has the same epoch)
--
-- Returns: a list of {ulid, attempts, repeatable, remaining, call, put back}, where call is
--          nil when it is missing, and empty when the same turn has stored it; and then 1 when there are more tasks in ready, else 0.
--          {'LIMITED', ms to wait} when there are tasks, but none is allowed by the limits, or by a service that
--          asked to wait; also when all tasks that were looked at have ended.
-- Effect: ready → lease; the epoch. Repeatable tasks are marked: they are sent without a further
--         script, and may run again if we never get their result. Tasks whose TTL is over end EXPIRED. The
--         key bell is deleted with the last task. The lease ends with the call that makes LEASE_BYTES. Up to 100 tasks are passed over, and keep their
--         places: tasks that only a newer release can read, and tasks beyond again and once. If no other
--         task was found, the first task beyond again is taken; if 100 were passed over,
--         the other tasks beyond again go behind all others. Up to 100 ended tasks, or 25 that end now,
--         lose their places, and the bell rings for the rest.
local left, beyond, unknown, passes = {}, {}, nil, 0
-- The ULIDs that were taken out of ready, false for those that do not belong there; the place of the one that is looked at; and which entries of taken are no leases.
local popped, at, damaged = {}, 0, {}
local vacant, rate, hand -- ready is empty; see allow
local room = LEASE_BYTES -- for calls in the reply: all other replies wait for it

-- lacks_right tells whether an error means that our user may not call a command, or that the command has another name.
local function lacks_right(err)
  local reason = type(err) == 'table' and err.err or err
  for _, words in ipairs(RIGHT_WORDS) do
    if string.find(reason, words) then return true end
  end
end

local function take(ulid, n, r, x, put_back, listened)
  local call = own[ulid] and '' or redis.pcall('GET', base .. 'p:' .. ulid)
  if type(call) ~= 'string' then
    if call and lacks_right(call) then error(call.err, 0) end
    call = false
  end
  room = room - #(call or '')
  redis.call('HSET', base .. 't:' .. ulid, 's', S_RUNNING, 'e', epoch)
  hold(ulid, n, r, x - now, call, put_back, listened)
end

local function take_loaded(ulid, task)
  take(ulid, task.n, tonumber(task.r), task.x, task.t, task.L or not task.W)
  if task.r == '1' and not task.W then redis.call('HSET', base .. 't:' .. ulid, 'm', '1') end -- of the release before
end

local function look_at(ulid)
  if room <= 0 then
    left[#left + 1] = ulid
    return
  end
  -- Most tasks have not failed before, and may be taken even if they were refused. For these tasks fewer fields are read.
  local v, s, x, born, n, r, put_back, listened = unpack(redis.call('HMGET', base .. 't:' .. ulid, 'v', 's', 'x', 'B', 'n', 'r', 't', 'L'))
  if born and not n and (again >= 0 or not put_back) and s == S_QUEUED and tonumber(v) == NEWEST_RECORD and (tonumber(x) or 0) > now then
    r = r or string.sub(born, 1, 1)
    if r == '1' or once >= 1 then
      if r ~= '1' then once = once - 1 end
      take(ulid, 0, tonumber(r) or 0, tonumber(x), tonumber(put_back) or 0, listened)
      return
    end
  end
  local task, err = load(ulid)
  if err then
    left[#left + 1], unknown = ulid, err
  elseif not task or task.s ~= S_QUEUED then
    if not task then redis.call('ZREM', TTL, ulid) end
    popped[at] = false
    rare().skipped()
    passes = passes + 1
  elseif task.x <= now then
    popped[at] = false
    rare().finish(ulid, task, S_EXPIRED, tombstone)
    passes = passes + BATCH / BULK
  elseif task.r ~= '1' and once < 1 then
    left[#left + 1] = ulid
  elseif task.n > 0 and again < 1 or task.t > 0 and again < 0 then
    left[#left + 1], beyond[ulid] = ulid, task
  else
    if task.n > 0 then again = again - 1 end
    if task.r ~= '1' then once = once - 1 end
    take_loaded(ulid, task)
  end
end

-- restrict lowers n to what the limits allow. They hold for all MOMs together: c leases at once, and r a second by a token
-- bucket, which had b tokens at the time a. It returns what lease returns if they allow none.
local function restrict(limits)
  local most, at
  most, rate, hand, at = unpack(redis.call('HMGET', limits, 'c', 'r', 'b', 'a'))
  -- The clock was set back: the bucket fills again from now on.
  if at and tonumber(at) > now then redis.call('HSET', limits, 'a', now) end
  if most then
    n = math.min(n, tonumber(most) - redis.call('ZCARD', LEASE))
    -- Other MOMs have these leases, and no message comes when they end.
    if n < 1 then return {'LIMITED', 100} end
  end
  if rate then
    -- In any second, fewer than second + 1 leases may begin: at most 1 + spare tokens are in the
    -- bucket at its start, and second - spare come within it. spare makes up for leases that come
    -- late.
    local second = tonumber(rate)
    if second > 1 then second = math.floor(second) end
    local spare = second < 10 and 0 or second / 100
    local come = math.max(now - tonumber(at or now), 0) * (second - spare) / 1000
    hand = math.min(tonumber(hand or 1) + come, 1 + spare)
    n = math.min(n, math.floor(hand))
    if n < 1 then return {'LIMITED', math.ceil((1 - hand) * 1000 / (second - spare))} end
  end
end

-- allow decides what lease may take, before new tasks are stored. If that is nothing, it returns the reply of lease.
local function allow()
  vacant = redis.call('EXISTS', READY) == 0
  if vacant and adds == 0 then
    redis.call('DEL', BELL)
    return {0}
  end
  local limits = base .. 'limits'
  if redis.call('EXISTS', PAUSED, base .. 'wait', limits) > 0 then
    if redis.call('EXISTS', PAUSED) == 1 then return {0} end
    local wait = wait_left()
    if wait > 0 then return {'LIMITED', wait} end
    local limited = restrict(limits)
    if limited then return limited end
  end
  if vacant then straight = n end
end

-- take_from_ready takes tasks as far as there is room.
local function take_from_ready()
  while #taken < n and #left < BATCH and passes < BATCH and room > 0 do
    local ulids = redis.call('LPOP', READY, math.min(n - #taken, BATCH - #left, math.ceil((BATCH - passes) * BULK / BATCH)))
    if not ulids then
      redis.call('DEL', base .. 'passed')
      break
    end
    for i, ulid in ipairs(ulids) do popped[at + i] = ulid end
    for _, ulid in ipairs(ulids) do
      at = at + 1
      local done, err = pcall(look_at, ulid)
      if not done then
        if lacks_right(err) then error(err, 0) end
        -- A damaged task gets no lease. It is in the reply, and has lost its place.
        taken[#taken + 1], popped[at], damaged[ulid] = {ulid, 0, 0, 0, false, 0}, false, true
      end
    end
  end
  if #taken == 0 then
    local kept, behind = {}, #left == BATCH
    for _, ulid in ipairs(left) do
      if beyond[ulid] and #taken == 0 then
        take_loaded(ulid, beyond[ulid])
      elseif beyond[ulid] and behind then
        redis.call('RPUSH', READY, ulid)
        for i = 1, at do if popped[i] == ulid then popped[i] = false end end
      else
        kept[#kept + 1] = ulid
      end
    end
    left = kept
  end
end

-- unpop puts a task back at the head of ready, or at its tail if our user may not do that.
local function unpop(ulid)
  if type(redis.pcall('LPUSH', READY, ulid)) == 'table' then redis.call('RPUSH', READY, ulid) end
end

-- undo restores ready after a command was refused midway: otherwise these tasks would be in no list. Leases that were taken before stay.
local function undo(before)
  for i = #taken, before + 1, -1 do
    if not damaged[taken[i][1]] then redis.pcall('HSET', base .. 't:' .. taken[i][1], 's', S_QUEUED) end
    taken[i] = nil
  end
  for i = #popped, 1, -1 do
    if popped[i] then pcall(unpop, popped[i]) end
  end
end

local function lease()
  vacant = vacant and #ready == 0
  if not vacant then
    local before = #taken -- add_all has written these leases
    local done, err = pcall(take_from_ready)
    if done then done, err = pcall(write_held) end
    if not done then
      undo(before)
      error(err, 0)
    end
    for i = #left, 1, -1 do unpop(left[i]) end
  end
  if rate then
    -- Rounded down, because the errors of rounding up would accumulate.
    redis.call('HSET', base .. 'limits', 'b', string.format('%.6f', math.floor((hand - #taken) * 1e6) / 1e6), 'a', now)
  end
  if unknown and #taken == 0 then return unknown end
  local more = vacant and 0 or redis.call('EXISTS', READY)
  if more == 0 then
    redis.call('DEL', BELL)
  elseif passes >= BATCH then
    if #taken == 0 then return {'LIMITED', 2} end
    ring() -- there are more tasks to look at
  end
  taken[#taken + 1] = more
  return taken
end
