-- Returns how many tasks of a shard have reached each final state.
--
-- ARGV: (none)
-- Returns: their numbers, by state from 1 to LAST_STATE
-- Effect: none.
local counts = {}
for state = 1, LAST_STATE do
  counts[state] = tonumber(redis.call('GET', base .. 'ended:' .. state) or 0)
end
return counts
