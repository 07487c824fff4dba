-- Counts the calls of tasks that an older release has parked. It also counts the holes, since that
-- release may have removed some of them.
--
-- ARGV: offset:n holes:n     (holes: found before the offset)
-- Returns: {the offset to go on from, -1 at the end; holes found before it}
-- Effect: up to 100 tasks from offset on in dead are counted in parked; at the end the
--         holes are written.
local entries = redis.call('LRANGE', DEAD, offset, offset + BATCH - 1)
for _, entry in ipairs(entries) do
  if is_hole(entry) then
    holes = holes + 1
  else
    local task = load(entry)
    if task and is_parked(task) then count_parked(entry) end
  end
end
offset = offset + BATCH
if #entries < BATCH then
  offset = -1
  redis.call('DEL', base .. 'holes')
  if holes > 0 then redis.call('INCRBY', base .. 'holes', holes) end
end
return {offset, holes}
