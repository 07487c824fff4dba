-- Prolongs leases.
--
-- ARGV: duration:ms ...     (ulid and epoch of each)
-- Returns: the positions, from 1, of the leases that are lost.
-- Effect: new deadlines in lease.
local lost = {}
for i = rest, #ARGV, 2 do
  local task = held(ARGV[i], ARGV[i + 1])
  if task and task.s == S_RUNNING then
    redis.call('ZADD', LEASE, now + duration, ARGV[i])
  else
    lost[#lost + 1] = (i - rest) / 2 + 1
  end
end
return lost
