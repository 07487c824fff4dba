-- Rings for all MOMs when tasks wait and nobody has rung for them.
--
-- ARGV: (none)
-- Effect: that of shared/call.lua
call_others()
say()
return 'OK'
