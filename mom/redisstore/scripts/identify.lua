-- Tells which store this is; one without a name gets one. It stands alone, without core.
--
-- KEYS: the name's key
-- ARGV: new_name
-- Returns: the name
-- Effect: none but the name. Redis 7 and later refuse it as any other script while
--         they take no writes.
local name = redis.call('GET', KEYS[1])
if name then return name end
redis.call('SET', KEYS[1], new_name)
return new_name
