-- The new tasks and leases of a turn. A turn leases tasks in ready, and new tasks that need not go to ready first: straight is how many of
-- these it may lease, 0 unless ready was empty.
local ready, own = {}, {} -- the new ones that go there, and whether a task is one of them
local taken, held_until = {}, {} -- what lease returns, and what LEASE gets: ends of leases, and their tasks
local straight = 0

-- hold leases one task, whose record the caller writes.
local function hold(ulid, n, r, remaining, call, put_back, listened)
  held_until[#held_until + 1], held_until[#held_until + 2] = text(now + duration), ulid
  note(ulid, S_RUNNING, listened)
  taken[#taken + 1] = {ulid, n, r, remaining, call, put_back}
end

-- write_held writes the leases of the tasks that were taken, with the ends of these leases.
local function write_held()
  if #held_until > 0 then redis.call('ZADD', LEASE, unpack(held_until)) end
  held_until = {}
end
