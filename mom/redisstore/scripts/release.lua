-- Gives a leased task back unseen.
--
-- ARGV: base ulid epoch tombstone     (tombstone in ms)
-- Returns: 'OK' or 'FENCED'. 'OK' too when it is back already.
-- Effect: lease → ready, no attempt spent, no mark; EXPIRED when its TTL is over.
local ulid = ARGV[2]
local task, reply = held(ulid, ARGV[3])
if not task then return reply end
if task.s == S_QUEUED or task.s == S_EXPIRED then return 'OK' end
if task.s ~= S_RUNNING then return 'FENCED' end
if task.x <= now then
  finish(ulid, task, S_EXPIRED, tonumber(ARGV[4]))
else
  give_back(ulid, task)
end
return 'OK'
