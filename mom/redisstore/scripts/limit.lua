-- Limits the leases of a shard, or lifts its limits.
--
-- ARGV: base most rate     (leases at once; leases a second; 0: no limit)
-- Returns: 'OK'
-- Effect: limits written or deleted; what was taken under a rate counts under the next.
--         Rings the bell.
local limits = base .. 'limits'
if tonumber(ARGV[2]) > 0 then
  redis.call('HSET', limits, 'c', ARGV[2])
else
  redis.call('HDEL', limits, 'c')
end
if tonumber(ARGV[3]) > 0 then
  redis.call('HSET', limits, 'r', ARGV[3])
else
  redis.call('HDEL', limits, 'r', 'b', 'a')
end
ring()
return 'OK'
