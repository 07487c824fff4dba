-- call_others rings the bell of the replayers of all MOMs when tasks wait that nobody is about to lease. It rings only once, and
-- sets the key bell: the replayers lease until the queue is empty. Each script that finds the queue empty deletes the key bell.
local function call_others()
  local head = redis.call('LINDEX', READY, 0)
  if head and redis.call('SET', BELL, '', 'NX') then note(head, S_QUEUED, true) end
end
