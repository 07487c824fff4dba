-- Prolongs leases.
--
-- ARGV: base duration, then ulid and epoch of each     (duration in ms)
-- Returns: the positions, from 1, of the leases that are lost.
-- Effect: new deadlines in lease.
local duration = tonumber(ARGV[2])
local lost = {}
for i = 3, #ARGV, 2 do
  local task = held(ARGV[i], ARGV[i + 1])
  if task and task.s == S_RUNNING then
    redis.call('ZADD', LEASE, now + duration, ARGV[i])
  else
    lost[#lost + 1] = (i - 1) / 2
  end
end
return lost
