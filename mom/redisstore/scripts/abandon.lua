-- Cancels tasks whose callers left without a handle, unless they were sent or are kept.
--
-- ARGV: tombstone:ms ...     (ulid and offer of each; offer is empty for a caller who
--       surely left, or the last offer of a caller whose connection was lost)
-- Returns: 'OK'
-- Effect: out of lease, passed over in ready; CANCELLED. A task with an offer is cancelled only if no
--         later offer came, and is marked, so that add stores it anew if a later offer comes.
for i = rest, #ARGV, 2 do
  local ulid, offer = ARGV[i], ARGV[i + 1]
  local task = load(ulid)
  local t = base .. 't:' .. ulid
  if task and unsent(task) and not is_kept(ulid) and (offer == '' or last_offer(ulid) == offer) then
    if offer ~= '' then redis.call('HSET', t, 'i', '1') end
    if task.s == S_QUEUED then pass_over(ulid, task) end
    finish(ulid, task, S_CANCELLED, tombstone)
  end
end
return 'OK'
