-- Makes a turn: what is asked for together in a shard of marks, ends, new tasks and a lease, in this order.
--
-- ARGV: marks:n ends:n adds:n ...
--       (how many of each there are; their own arguments follow: see shared/mark.lua,
--       shared/settle.lua and shared/add.lua. shared/lease.lua leases unless n is 0)
-- Returns: a reply of each mark, end and new task, and of the lease if there is one
-- Effect: those of the shared files
--
-- With new tasks, this is the only script that a Redis at maxmemory refuses, in which each end fails by itself then: it is
-- made again without the new tasks.
local replies = {}
local at = mark_all(marks, rest, replies)
at = settle_all(ends, at, replies)
add_all(adds, at, replies)
if n > 0 then replies[#replies + 1] = alone(lease) end
say()
return replies
