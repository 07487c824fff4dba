-- Returns the commands that the user of this connection may not call, or that the server does not have. It is used alone, without core.
--
-- ARGV: key ...
--       (a key that the user should be able to use, like all keys and channels of a shard; and the commands)
-- Returns: the names of these commands, separated by blanks; none before Redis 7, which cannot check rights in a script
-- Effect: none

-- Some builds of Redis 8.0 judge only calls with as many arguments as the command takes, which the key stands for.
local function may(command)
  local arguments = {}
  for _ = 1, 4 do
    arguments[#arguments + 1] = key
    local judged, allowed = pcall(redis.acl_check_cmd, command, unpack(arguments))
    if judged then return allowed end
  end
  local judged, allowed = pcall(redis.acl_check_cmd, command)
  return judged and allowed -- a command that was renamed is an error, with however many arguments
end

local denied = {}
if redis.acl_check_cmd then
  for i = rest, #ARGV do
    if not may(ARGV[i]) then denied[#denied + 1] = ARGV[i] end
  end
end
return table.concat(denied, ' ')
