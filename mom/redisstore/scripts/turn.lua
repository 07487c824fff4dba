-- Makes a turn: what is asked for together in a shard of marks, ends, new tasks and a lease, in this order.
--
-- ARGV: marks:n ends:n adds:n attended ...
--       (how many of each there are; their own arguments follow: see shared/mark.lua,
--       shared/settle.lua and shared/add.lua. shared/lease.lua leases unless n is 0. attended is 1 when
--       the MOM leases new tasks that are left by itself)
-- Returns: a reply of each mark, end and new task, and of the lease if there is one
-- Effect: those of the shared files
--
-- With new tasks, this is the only script that a Redis at maxmemory refuses, in which each end fails by itself then: it is
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
