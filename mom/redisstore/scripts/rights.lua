-- Returns the commands that the user of this connection may not call. It is used alone, without core.
--
-- ARGV: key ...
--       (a key that the user should be able to use, as all keys and channels of a shard, and the commands)
-- Returns: the names of those that it may not call, separated by blanks; none before Redis 7, which cannot tell
-- Effect: none
local denied = {}
if redis.acl_check_cmd then
  for i = rest, #ARGV do
    local known, allowed = pcall(redis.acl_check_cmd, ARGV[i], key)
    if known and not allowed then denied[#denied + 1] = ARGV[i] end
  end
end
return table.concat(denied, ' ')
