-- Limits the leases of a shard, or lifts its limits.
--
-- ARGV: base most rate     (leases at once; leases a second; 0: no limit)
-- Returns: 'OK'
-- Effect: limits written anew or deleted; rings the bell.
local limits = base .. 'limits'
redis.call('DEL', limits)
if tonumber(ARGV[2]) > 0 then redis.call('HSET', limits, 'c', ARGV[2]) end
if tonumber(ARGV[3]) > 0 then redis.call('HSET', limits, 'r', ARGV[3]) end
ring()
return 'OK'
