-- Parks tasks that may have run after the backup from which Redis was restored.
--
-- ARGV: from_open:n from_parked:n
-- Returns: {tasks that are UNCERTAIN now, from_open, from_parked}: the places in ttl and
--          in dead to go on from, -1 at their ends
-- Effect: works on some of the tasks that were queued or parked before this server was started. Tasks
--         that are not repeatable go from open to dead as UNCERTAIN, or from DEAD to UNCERTAIN.
--         These tasks and the open repeatable ones count one more attempt, once.
local failure = 'restored from a backup: may have run since'
local changed = 0

-- INFO has whole seconds: a task of the second of the start may have come before the start.
local info = redis.pcall('INFO', 'server')
local up = type(info) == 'string' and tonumber(string.match(info, 'uptime_in_seconds:(%d+)')) or 0
local started = (math.floor(now / 1000) - up + 1) * 1000

-- seen notes that the service may have run a task since the backup, so that no caller is told
-- that it was not executed.
local function seen(ulid)
  local t = base .. 't:' .. ulid
  local earlier, known = unpack(redis.call('HMGET', t, 'q', 'M'))
  if known then return end
  redis.call('HSET', t, 'q', tonumber(earlier or 0) + 1, 'M', '1')
end

local entries = {}
if from_open >= 0 then entries = redis.call('ZRANGE', TTL, from_open, from_open + BULK - 1) end
for _, ulid in ipairs(entries) do
  local task = load(ulid)
  local before = task and task.o / 1000 < started
  if before then seen(ulid) end
  if before and task.r ~= '1' then
    if task.s == S_QUEUED then redis.call('INCRBY', base .. 'passed', 1) end -- see pass_over.lua
    park(ulid, S_UNCERTAIN, task.n, failure)
    changed = changed + 1
  else
    from_open = from_open + 1
  end
end
if #entries < BULK then from_open = -1 end

entries = {}
if from_parked >= 0 then entries = redis.call('LRANGE', DEAD, from_parked, from_parked + BULK - 1) end
for _, ulid in ipairs(entries) do
  local task = load(ulid)
  if task and task.s == S_DEAD and task.r ~= '1' and (parked_since(ulid) or 0) < started then
    seen(ulid)
    redis.call('HSET', base .. 't:' .. ulid, 's', S_UNCERTAIN, 'f', failure)
    count_parked(ulid)
    publish(ulid, S_UNCERTAIN)
    changed = changed + 1
  end
  from_parked = from_parked + 1
end
if #entries < BULK then from_parked = -1 end
return {changed, from_open, from_parked}
