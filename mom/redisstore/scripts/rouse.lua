-- Makes tasks due that were passed over: perhaps they can be sent now.
--
-- ARGV: offset:n
-- Returns: {the offset to go on from, -1 at the end}
-- Effect: looks at up to 100 retrying tasks from offset on. Those that were passed over are
--         due now.
local ulids = redis.call('ZRANGE', LATER, offset, offset + BATCH - 1)
for _, ulid in ipairs(ulids) do
  local t, task = base .. 't:' .. ulid, load(ulid)
  if task and task.s == S_RETRYING and redis.call('HGET', t, 'A') then
    redis.call('HSET', t, 'd', now)
    redis.call('ZADD', LATER, now, ulid)
  end
end
return {#ulids < BATCH and -1 or offset + BATCH}
