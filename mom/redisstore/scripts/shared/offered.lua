-- is_kept tells whether a task is kept for its caller; last_offer returns the number of the last offer of its call.
local function kept_by(ulid, field, place)
  local own, born = unpack(redis.call('HMGET', base .. 't:' .. ulid, field, 'B'))
  return own or born and string.match(born, place) or '0'
end

local function is_kept(ulid)
  return kept_by(ulid, 'g', '^%d%d(%d)') == '1'
end

local function last_offer(ulid)
  return kept_by(ulid, 'j', '^%d+ (%S+)')
end
