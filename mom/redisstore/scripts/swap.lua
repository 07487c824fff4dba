-- Replaces a text, if it is still the old text. It is used alone, without core.
--
-- KEYS: the text's key
-- ARGV: old new     (old is empty if there was no text)
-- Returns: the text that is there now
-- Effect: none but the text.
local text = redis.call('GET', KEYS[1]) or ''
if text ~= old then return text end
redis.call('SET', KEYS[1], new)
return new
