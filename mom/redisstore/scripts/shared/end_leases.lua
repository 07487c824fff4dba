-- Leases and retries on a clock that may jump.

-- soonest looks for entries of a set that are due later than in within ms, and makes them due in within ms. Such entries
-- exist only after the clock was set back. Returns whether there may be more of them.
local function soonest(set, within)
  local ulids = redis.call('ZRANGEBYSCORE', set, '(' .. now + within, '+inf', 'LIMIT', 0, BULK)
  for _, ulid in ipairs(ulids) do
    redis.call('ZADD', set, now + within, ulid)
    local task = load(ulid)
    if task and task.s == S_RETRYING then redis.call('HSET', base .. 't:' .. ulid, 'd', now + within) end
  end
  return #ulids == BULK
end

-- end_leases ends leases that are over, at most 25. If the clock was set ahead, a lease may be
-- over although its holder still renews it. So only leases in ripe, ULID → end, are ended: a
-- MOM has seen by its own clock that they were not renewed for grace ms. Returns whether there is
-- more to do now, and the leases to watch, which are over within grace ms: {ulid, end, ms until
-- then, …}.
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
      stays = err -- only a newer release can read it
    end
    if stays then
      watch[#watch + 1] = ulid
      watch[#watch + 1] = ends
      watch[#watch + 1] = left
    end
  end
  return ended == BULK, watch
end
