-- reap_parked gives up parked tasks, the oldest first: those that were parked for ttl ms, and
-- others while the calls of parked tasks take more than max bytes. Returns how many it has given
-- up, and the ms until the next one is due: 0 when there is more to do now, -1 when none will be
-- due. Tasks that only a newer release can read are left to it.
local function reap_parked(ttl, max, tombstone)
  local ended, passed = 0, 0
  if close_up() == BATCH then return 0, 0 end
  for _ = 1, BATCH do
    if ended == BULK then return ended, 0 end
    local ulid = redis.call('LINDEX', DEAD, passed)
    if not ulid then return ended, -1 end
    local task, err = load(ulid)
    if err or is_hole(ulid) then
      passed = passed + 1
    elseif not task or not is_parked(task) then
      redis.call('LREM', DEAD, 1, ulid)
      leave(ulid)
      close_up()
    else
      count_parked(ulid)
      local left = tonumber(redis.call('HGET', base .. 't:' .. ulid, 'z') or now) + ttl - now
      if left > 0 and tonumber(redis.call('GET', base .. 'parked') or 0) <= max then return ended, left end
      give_up(ulid, task, tombstone)
      ended = ended + 1
    end
  end
  return ended, passed < BATCH and 0 or -1
end
