-- skipped subtracts one from passed, after an ended task was taken out of ready.
local function skipped()
  local passed = base .. 'passed'
  if tonumber(redis.call('GET', passed) or 0) > 0 and redis.call('DECRBY', passed, 1) <= 0 then redis.call('DEL', passed) end
end
