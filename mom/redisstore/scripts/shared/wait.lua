-- wait_left is for how many more ms the service has asked to get no calls (see put_back.lua); 0 if it has not. A clock that was set back would
-- prolong that, or come to that time again: then the wait is over.
local function wait_left()
  local left, asked = tonumber(redis.call('GET', base .. 'wait') or 0) - now, tonumber(redis.call('GET', base .. 'asked') or 0)
  if left > WAIT_MAX or asked > now then
    redis.call('DEL', base .. 'wait')
    return 0
  end
  return math.max(left, 0)
end
