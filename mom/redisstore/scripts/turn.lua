-- Makes a turn: the marks, ends, new tasks and the lease that were asked for at the same time in a shard, in this order.
--
-- ARGV: marks:n ends:n adds:n attended ...
--       (how many marks, ends and new tasks there are; their own arguments follow: see shared/mark.lua,
--       shared/settle.lua and shared/add.lua. shared/lease.lua leases unless n is 0. attended is 1 when
--       the MOM itself is about to lease the new tasks that this turn does not lease)
-- Returns: a reply for each mark, end and new task, and for the lease if there is one
-- Effect: those of the shared files
--
-- With new tasks, this is the only script that a Redis at maxmemory refuses. Then each end in it fails by itself, and is
-- made again without the new tasks.
local replies = {}
local at = rest
if marks > 0 then at = marking().mark_all(marks, at, replies) end
if ends > 0 then at = ending().settle_all(ends, at, replies) end
local leases = n > 0 -- which allow lowers
local limited = leases and alone(leasing().allow)
if adds > 0 then adding().add_all(adds, at, replies) end
if leases then
  local leased = limited or alone(leasing().lease)
  replies[#replies + 1] = leased
  -- It has left what it has no room for. If the limits allow no more, that is so for all.
  if leased.err or leased[1] ~= 'LIMITED' and leased[#leased] == 1 then call_others() end
elseif #ready > 0 and attended ~= '1' then
  call_others()
end
say()
return replies
