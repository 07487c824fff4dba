-- Leases and retries on a clock that may jump.

-- soonest brings back what is later than it can be, since the clock was set back:
-- nothing in the set may be due later than in so many ms. Says whether there may be
-- more.
local function soonest(set, within)
  local ulids = redis.call('ZRANGEBYSCORE', set, '(' .. now + within, '+inf', 'LIMIT', 0, BULK)
  for _, ulid in ipairs(ulids) do
    redis.call('ZADD', set, now + within, ulid)
    local task = load(ulid)
    if task and task.s == S_RETRYING then redis.call('HSET', base .. 't:' .. ulid, 'd', now + within) end
  end
  return #ulids == BULK
end

-- end_leases ends leases that are over, at most 25. The clock may have been set
-- ahead, so that a lease is over that its holder is about to renew: ripe tells, by
-- ULID, the ends of those leases that a MOM has seen not to be renewed for grace ms by
-- its own clock. Only these end. Returns whether there is more to do now, and what
-- is over within grace ms, to be watched: {ulid, end, ms until then, …}.
local function end_leases(grace, ripe, end_lease)
  local watch, ended = {}, 0
  local near = redis.call('ZRANGEBYSCORE', LEASE, '-inf', now + grace, 'WITHSCORES', 'LIMIT', 0, 10 * BATCH)
  for i = 1, #near, 2 do
    local ulid, ends = near[i], near[i + 1]
    local left, stays = tonumber(ends) - now, true
    if left <= 0 and ripe[ulid] == ends and ended < BULK then
      local task, err = load(ulid)
      if task then
        end_lease(ulid, task)
        ended = ended + 1
      elseif not err then
        redis.call('ZREM', LEASE, ulid)
      end
      stays = err -- a newer release knows it
    end
    if stays then
      watch[#watch + 1] = ulid
      watch[#watch + 1] = ends
      watch[#watch + 1] = left
    end
  end
  return ended == BULK, watch
end
