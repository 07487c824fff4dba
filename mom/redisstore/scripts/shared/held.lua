-- held loads a task for the holder of a lease. If the lease is lost, it returns nil and what the
-- script should return.
local function held(ulid, epoch)
  local task, err = load(ulid)
  if err then return nil, err end
  if not task or task.e ~= epoch then return nil, 'FENCED' end
  return task
end
