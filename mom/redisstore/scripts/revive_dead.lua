-- Revives a batch of parked tasks.
--
-- ARGV: base uncertain from until     (uncertain: 1 takes those along; until is in ms,
--       0 for now)
-- Returns: {revived, the index in dead to go on from, until}; an index of -1 at the end
-- Effect: as revive, for some of the tasks from an index on in dead that were parked at
--         until the latest: those that die again meanwhile stay dead.
local uncertain, index, til = ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4])
if til == 0 then til = now end
local revived = 0
local entries = redis.call('LRANGE', DEAD, index, index + BULK - 1)
for _, ulid in ipairs(entries) do
  local task, err = load(ulid)
  if (parked_since(ulid) or 0) > til then
    entries = {}
    break
  end
  if task and is_parked(task) and (uncertain or task.s == S_DEAD) then
    if not vacate(index, ulid) then index = index + 1 end
    leave(ulid)
    revive(ulid, task)
    revived = revived + 1
  elseif is_hole(ulid) or task or err then
    index = index + 1
  elseif not vacate(index, ulid) then
    index = index + 1
  end
end
index = math.max(index - close_up(), 0)
if #entries < BULK then index = -1 end
return {revived, index, til}
