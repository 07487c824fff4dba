-- Limits the leases of a shard, or lifts its limits.
--
-- ARGV: most:leases rate     (leases at once; leases a second; 0: no limit)
-- Returns: 'OK'
-- Effect: limits written or deleted; leases that were taken under the old rate count under the new one.
--         Rings the bell.
local limits = base .. 'limits'
if most > 0 then
  redis.call('HSET', limits, 'c', most)
else
  redis.call('HDEL', limits, 'c')
end
if tonumber(rate) > 0 then
  redis.call('HSET', limits, 'r', rate)
else
  redis.call('HDEL', limits, 'r', 'b', 'a')
end
ring()
return 'OK'
