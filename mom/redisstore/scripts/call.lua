-- Rings the bell of all MOMs if tasks wait and the bell has not rung for them yet.
--
-- ARGV: (none)
-- Effect: that of shared/call.lua
call_others()
say()
return 'OK'
