-- Cancels a task that was never sent, or that waits for a person. When its caller
-- left, only one that was never sent and that nobody keeps.
--
-- ARGV: base ulid tombstone left     (tombstone in ms; left is 1 or 0)
-- Returns: 'OK', 'NONE' or 'STATE'
-- Effect: out of ready, lease or dead; CANCELLED.
local ulid = ARGV[2]
local task, err = load(ulid)
if err then return err end
if not task then return 'NONE' end
if task.s == S_CANCELLED then return 'OK' end
if ARGV[4] == '1' and (task.s == S_DEAD or task.s == S_UNCERTAIN or redis.call('HGET', base .. 't:' .. ulid, 'g') == '1') then
  return 'STATE'
end
if task.s == S_DEAD or task.s == S_UNCERTAIN then
  redis.call('LREM', DEAD, 1, ulid)
elseif task.n == 0 and task.s == S_QUEUED then
  redis.call('LREM', READY, 1, ulid)
elseif not (task.n == 0 and (task.s == S_RETRYING or task.s == S_RUNNING and not task.m)) then
  return 'STATE'
end
finish(ulid, task, S_CANCELLED, tonumber(ARGV[3]))
return 'OK'
