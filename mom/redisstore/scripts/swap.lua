-- Replaces a text, unless it is not the old one any more. It is used alone, without core.
--
-- KEYS: the text's key
-- ARGV: old new     (old is empty for none)
-- Returns: the text that is there now
-- Effect: none but the text.
local text = redis.call('GET', KEYS[1]) or ''
if text ~= old then return text end
redis.call('SET', KEYS[1], new)
return new
