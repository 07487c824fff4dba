-- Counts what the calls of tasks take that an older release has parked.
--
-- ARGV: base offset
-- Returns: {how many tasks it has looked at}; fewer than 100 were the last ones.
-- Effect: up to 100 tasks from offset on in dead are counted in parked.
local ulids = redis.call('LRANGE', DEAD, ARGV[2], ARGV[2] + BATCH - 1)
for _, ulid in ipairs(ulids) do
  local task = load(ulid)
  if task and is_parked(task) then count_parked(ulid) end
end
return {#ulids}
