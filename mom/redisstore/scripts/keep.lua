-- Keeps tasks whose callers get handles.
--
-- ARGV: ...     (ulids)
-- Returns: the positions, from 1, of the tasks that do not exist or were cancelled.
-- Effect: marks the others as kept, so that abandon.lua leaves them.
local missing = {}
for i = rest, #ARGV do
  local t = base .. 't:' .. ARGV[i]
  local state = redis.call('HGET', t, 's')
  if state and state ~= S_CANCELLED then
    redis.call('HSET', t, 'g', '1')
  else
    missing[#missing + 1] = i - rest + 1
  end
end
return missing
