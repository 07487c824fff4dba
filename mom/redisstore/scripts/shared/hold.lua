-- What a turn has of new tasks and leases. It leases tasks in ready, and new ones that need not go there: straight is how many of
-- these it may take, 0 unless ready was empty.
local ready, own = {}, {} -- the new ones that go there, and whether a task is one of them
local taken, held_until = {}, {} -- what lease returns, and what LEASE gets: ends of leases, and their tasks
local straight = 0

-- hold takes one, whose record the caller writes.
local function hold(ulid, n, r, remaining, call, put_back, listened)
  held_until[#held_until + 1], held_until[#held_until + 2] = text(now + duration), ulid
  note(ulid, S_RUNNING, listened)
  taken[#taken + 1] = {ulid, n, r, remaining, call, put_back}
end

-- write_held writes down which tasks are held, and until when.
local function write_held()
  if #held_until > 0 then redis.call('ZADD', LEASE, unpack(held_until)) end
  held_until = {}
end
