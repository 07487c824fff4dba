-- Counts a shard.
--
-- ARGV: base
-- Returns: {queued, running, retrying, dead, paused, ms since the head came}
-- Effect: none.
local wait = 0
local head = redis.call('LINDEX', READY, 0)
if head then
  local order = redis.call('HGET', base .. 't:' .. head, 'o')
  if order then wait = math.max(now - math.floor(tonumber(order) / 1000), 0) end
end
return {
  redis.call('LLEN', READY), redis.call('ZCARD', LEASE), redis.call('ZCARD', LATER),
  redis.call('LLEN', DEAD), redis.call('EXISTS', PAUSED), wait,
}
