-- Takes up to n tasks from the head of the queue.
--
-- ARGV: base n duration tombstone     (times in ms)
-- Returns: a list of {ulid, epoch, attempts, repeatable, remaining, call}; call
--          is nil when it is missing.
-- Effect: ready → lease; a new epoch. Tasks whose TTL is over end EXPIRED. The
--         bell goes with the last task. Up to 100 tasks that only a newer
--         release knows are passed over, and keep their places.
local n, duration, tombstone = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local taken, left, unknown = {}, {}, nil
if redis.call('EXISTS', PAUSED) == 1 then return taken end

for _ = 1, n + BATCH do
  if #taken == n then break end
  local ulid = redis.call('LPOP', READY)
  if not ulid then break end
  local task, err = load(ulid)
  if err then
    left[#left + 1], unknown = ulid, err
  elseif not task then
    redis.call('ZREM', TTL, ulid)
  elseif task.x <= now then
    finish(ulid, task, S_EXPIRED, tombstone)
  else
    local epoch = tonumber(task.e) + 1
    redis.call('HSET', base .. 't:' .. ulid, 's', S_RUNNING, 'e', epoch)
    redis.call('ZADD', LEASE, now + duration, ulid)
    publish(ulid, S_RUNNING)
    taken[#taken + 1] = {ulid, epoch, task.n, tonumber(task.r), task.x - now, redis.call('GET', base .. 'p:' .. ulid)}
  end
end
for i = #left, 1, -1 do redis.call('LPUSH', READY, left[i]) end
if unknown and #taken == 0 then return unknown end
if redis.call('EXISTS', READY) == 0 then redis.call('DEL', BELL) end
return taken
