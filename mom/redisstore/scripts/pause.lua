-- Stops or starts leasing in a shard.
--
-- ARGV: paused     (1 or 0)
-- Returns: 'OK'
-- Effect: paused written or deleted; starting rings the bell.
if paused == '1' then
  redis.call('SET', PAUSED, '1')
else
  redis.call('DEL', PAUSED)
  ring()
end
return 'OK'
