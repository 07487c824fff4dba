-- Opens a shard for the tasks that are placed by a number of shards, and closes it for
-- tasks that are placed by earlier numbers.
--
-- ARGV: epoch:n     (of the number)
-- Returns: 'OK'
-- Effect: numbering written, unless a later one is there.
local numbering = base .. 'numbering'
if tonumber(redis.call('GET', numbering) or 0) < epoch then redis.call('SET', numbering, epoch) end
return 'OK'
