-- Makes tasks due that were passed over: what they lacked may be here.
--
-- ARGV: base offset
-- Returns: {how many retrying tasks it has looked at}; fewer than 100 were the last
--          ones.
-- Effect: those of them in later are due now.
local ulids = redis.call('ZRANGE', LATER, ARGV[2], ARGV[2] + BATCH - 1)
for _, ulid in ipairs(ulids) do
  local t, task = base .. 't:' .. ulid, load(ulid)
  if task and task.s == S_RETRYING and redis.call('HGET', t, 'A') then
    redis.call('HSET', t, 'd', now)
    redis.call('ZADD', LATER, now, ulid)
  end
end
return {#ulids}
