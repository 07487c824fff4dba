-- Opens a shard for the tasks that are placed by a number of shards, and closes it for
-- those that are placed by earlier ones.
--
-- ARGV: base epoch     (of the number)
-- Returns: 'OK'
-- Effect: numbering written, unless a later one is there.
local numbering = base .. 'numbering'
if tonumber(redis.call('GET', numbering) or 0) < tonumber(ARGV[2]) then redis.call('SET', numbering, ARGV[2]) end
return 'OK'
