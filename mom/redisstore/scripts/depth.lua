-- Counts a shard.
--
-- ARGV: (none)
-- Returns: {queued, running, retrying, dead, paused, ms since the head came, bytes,
--          leases at once, thousandths of leases a second, bytes of the parked
--          calls, ms since the oldest was parked, how many of dead are UNCERTAIN,
--          ms for which the service has asked to get no calls};
--          0 for no limit
-- Effect: the key bell is deleted when nothing is queued.
local wait = 0
for _, head in ipairs(redis.call('LRANGE', READY, 0, BATCH - 1)) do
  local state, order = unpack(redis.call('HMGET', base .. 't:' .. head, 's', 'o'))
  if state == S_QUEUED then
    wait = math.max(now - math.floor(tonumber(order or 0) / 1000), 0)
    break
  end
end
local queued = redis.call('LLEN', READY) - tonumber(redis.call('GET', base .. 'passed') or 0)
if queued <= 0 then redis.call('DEL', BELL) end
local dead = math.max(redis.call('LLEN', DEAD) - tonumber(redis.call('GET', base .. 'holes') or 0), 0)
local uncertain = tonumber(redis.call('GET', base .. 'uncertain') or 0)
local parked, parked_for = parked_now()
local most, rate = unpack(redis.call('HMGET', base .. 'limits', 'c', 'r'))
return {
  math.max(queued, 0), redis.call('ZCARD', LEASE), redis.call('ZCARD', LATER),
  dead, redis.call('EXISTS', PAUSED), wait,
  tonumber(redis.call('GET', base .. 'bytes') or 0), tonumber(most or 0), math.floor((rate or 0) * 1000 + 0.5),
  parked, parked_for, math.max(math.min(uncertain, dead), 0), wait_left(),
}
