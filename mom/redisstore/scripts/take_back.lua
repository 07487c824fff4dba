-- Gives back the tasks that were leased by a turn whose reply was lost. No other lease has the same epoch, so nobody has sent
-- these tasks.
--
-- ARGV: epoch tombstone:ms
-- Effect: as that of release.lua, for each of the first 1000 leases that has the epoch
for _, ulid in ipairs(redis.call('ZRANGE', LEASE, 0, 10 * BATCH - 1)) do
  local task = load(ulid)
  if task and task.s == S_RUNNING and task.e == epoch then bring_back(ulid, task, tombstone) end
end
return 'OK'
