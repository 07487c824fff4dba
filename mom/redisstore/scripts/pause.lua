-- Stops or starts leasing in a shard.
--
-- ARGV: base paused     (1 or 0)
-- Returns: 'OK'
-- Effect: paused written or deleted; starting rings the bell.
if ARGV[2] == '1' then
  redis.call('SET', PAUSED, '1')
else
  redis.call('DEL', PAUSED)
  ring()
end
return 'OK'
