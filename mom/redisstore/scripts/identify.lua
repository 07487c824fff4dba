-- Returns the name of the store, and names a store that has none. It is used alone, without core.
--
-- KEYS: the name's key
-- ARGV: new_name
-- Returns: the name
-- Effect: none but the name. Redis 7 and later refuse it, like every script, while they take no
--         writes.
local name = redis.call('GET', KEYS[1])
if name then return name end
redis.call('SET', KEYS[1], new_name)
return new_name
