-- Stores a call at the tail of its queue, once.
--
-- ARGV: ulid ttl:ms answer_ttl:ms max_queued:tasks max_bytes:bytes memory
--       placed_by only_known procedure caller cause repeatable kept offer:n
--       call version key_hash fingerprint twin schema known json
--       (max_bytes is for calls that are not parked; memory is what is known of the
--       server's: 'full', 'look' to look now, or empty; placed_by is the epoch of the
--       number of shards by which the task is placed; only_known is 1 in a shard where
--       an earlier number would have placed it; version is the call's; key_hash may be
--       empty; so may twin, another fingerprint of the same request; schema and known,
--       which may be empty too, and json tell how the fingerprint was made)
-- Returns: {'ADDED', expires in ms}, {'KNOWN', expires in ms} for a ulid that was added
--          before, {'ATTACHED', ulid}, {'REUSED', fingerprint, schema, known, json,
--          call} of the request that the key names, where call is empty unless schema
--          is, {'FULL', what} where what is tasks, bytes or memory, {'MOVED', epoch}
--          when the shard has another epoch, or {'NONE'} of only_known: it is not here
-- Effect: t: p: i: c: written, in ready and ttl, counted in bytes. A task that was cancelled
--         because its caller's connection was lost is stored anew: the caller is here again.
--
-- This is the only script that a Redis at maxmemory refuses. Its first write needs memory, so it
-- is refused before it has written anything.
local t = base .. 't:' .. ulid
local expires, state, lost, epoch, offered = unpack(redis.call('HMGET', t, 'x', 's', 'i', 'e', 'j'))
local again = state == S_CANCELLED and lost
if expires and not again then
  if kept == '1' then redis.call('HSET', t, 'g', '1') end
  if offer > tonumber(offered or 0) then redis.call('HSET', t, 'j', offer) end
  return {'KNOWN', expires}
end
if key_hash ~= '' then
  local named = redis.call('GET', base .. 'i:' .. key_hash)
  if named then
    local other = string.sub(named, 1, 26)
    if redis.call('EXISTS', base .. 't:' .. other) == 1 then
      local first = string.sub(named, 28)
      if first == fingerprint or first == twin then return {'ATTACHED', other} end
      local G, H, I = unpack(redis.call('HMGET', base .. 't:' .. other, 'G', 'H', 'I'))
      -- Without a schema, Go can compare only with the call itself.
      local whole = not G and redis.call('GET', base .. 'p:' .. other)
      return {'REUSED', first, G or '', H or '', I or '', whole or ''}
    end
  end
end
if only_known == '1' and not again then return {'NONE'} end
local numbering = redis.call('GET', base .. 'numbering') or '0'
if numbering ~= placed_by then return {'MOVED', numbering} end
if redis.call('ZCARD', TTL) >= max_queued then return {'FULL', 'tasks'} end
local bytes = tonumber(redis.call('GET', base .. 'bytes') or 0)
local parked = math.max(tonumber(redis.call('GET', base .. 'parked') or 0), 0)
if bytes - parked + #call > max_bytes then return {'FULL', 'bytes'} end
if memory == 'look' then
  local info = redis.call('INFO', 'memory')
  local used, limit = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
  -- The remaining memory is for answers, and for the scripts that drain the queues.
  if tonumber(limit) > 0 and tonumber(used) > 0.8 * tonumber(limit) then memory = 'full' end
end
if memory == 'full' then return {'FULL', 'memory'} end

-- If it was passed over, it may still be in ready, and is then there twice. It is leased from the
-- first place, and skipped at the other one, as was counted.
if again then
  redis.call('DEL', t)
  redis.call('ZREM', GONE, ulid .. ' ' .. caller)
end
-- The epoch is kept, so that an old lease does not fit the new task.
redis.call('HSET', t, 'v', version, 's', S_QUEUED, 'e', epoch or 0, 'n', 0, 'r', repeatable,
  'o', now_us, 'c', now, 'x', now + ttl, 'l', ttl, 'w', answer_ttl,
  'p', procedure, 'u', caller, 'h', cause, 'g', kept, 'j', offer)
redis.call('SET', base .. 'p:' .. ulid, call)
redis.call('INCRBY', base .. 'bytes', #call)
if key_hash ~= '' then
  redis.call('HSET', t, 'k', key_hash)
  if schema ~= '' then redis.call('HSET', t, 'G', schema) end
  if known ~= '' then redis.call('HSET', t, 'H', known) end
  if json == '1' then redis.call('HSET', t, 'I', json) end
  redis.call('SET', base .. 'i:' .. key_hash, ulid .. ' ' .. fingerprint)
end
redis.call('ZADD', base .. 'c:' .. caller, 0, ulid)
redis.call('ZADD', TTL, now + ttl, ulid)
redis.call('RPUSH', READY, ulid)
publish(ulid, S_QUEUED)
return {'ADDED', redis.call('HGET', t, 'x')}
