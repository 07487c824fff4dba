-- Counts a shard.
--
-- ARGV: base
-- Returns: {queued, running, retrying, dead, paused, ms since the head came, bytes,
--          leases at once, thousandths of leases a second, bytes of the parked
--          calls, ms since the oldest was parked}; 0 for no limit
-- Effect: none.
local wait = 0
local head = redis.call('LINDEX', READY, 0)
if head then
  local order = redis.call('HGET', base .. 't:' .. head, 'o')
  if order then wait = math.max(now - math.floor(tonumber(order) / 1000), 0) end
end
local parked, parked_for = parked_now()
local most, rate = unpack(redis.call('HMGET', base .. 'limits', 'c', 'r'))
return {
  redis.call('LLEN', READY), redis.call('ZCARD', LEASE), redis.call('ZCARD', LATER),
  redis.call('LLEN', DEAD), redis.call('EXISTS', PAUSED), wait,
  tonumber(redis.call('GET', base .. 'bytes') or 0), tonumber(most or 0), math.floor((rate or 0) * 1000 + 0.5),
  parked, parked_for,
}
