-- call_others rings for the replayers of all MOMs when tasks wait that nobody is about to lease. It does so once: whoever
-- has heard it leases until the queue is empty. Each script that finds it empty deletes the key bell.
local function call_others()
  local head = redis.call('LINDEX', READY, 0)
  if head and redis.call('SET', BELL, '', 'NX') then note(head, S_QUEUED, true) end
end
