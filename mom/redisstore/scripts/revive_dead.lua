-- Revives a batch of parked tasks.
--
-- ARGV: base uncertain offset count     (uncertain: 1 takes those along)
-- Returns: {revived, passed over}
-- Effect: as revive, for at most 100 of the count tasks from offset on in dead.
local uncertain, offset, count = ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4])
if count > BATCH then count = BATCH end
local revived, passed = 0, 0
for _, ulid in ipairs(redis.call('LRANGE', DEAD, offset, offset + count - 1)) do
  local task, err = load(ulid)
  if task and (task.s == S_DEAD or (uncertain and task.s == S_UNCERTAIN)) then
    unpark(ulid)
    revive(ulid, task)
    revived = revived + 1
  elseif not task and not err then
    unpark(ulid)
  else
    passed = passed + 1
  end
end
return {revived, passed}
