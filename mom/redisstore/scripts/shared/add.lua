-- Stores calls, each of them once: at the tail of the queue, or at once in lease.
--
-- ARGV: max_queued:tasks max_bytes:bytes memory
--       (max_bytes is for calls that are not parked; memory is what Go knows about the server's memory:
--       'full', 'look' to look now, or empty)
--
-- For each call: ulid, placed_by, only_known, version, ttl in ms, born, procedure, caller, cause,
-- call, key_hash, and if key_hash is not empty, fingerprint, twin, schema, known, json. placed_by is
-- the epoch of the number of shards by which the task is placed; only_known is 1 in a shard where an
-- earlier number would have placed the task; born is the field B of the record, without the last number; twin,
-- which may be empty, is another fingerprint of the same request; schema and known, which may be empty
-- too, and json describe how the fingerprint was made.
--
-- Returns: for each call one of these: when the task expires, in ms; {'KNOWN', expires} for a ulid that was added
--          before; {'ATTACHED', ulid}; {'REUSED', fingerprint, schema, known, json, call} of the
--          request that the key names, where call is empty unless schema is empty; {'FULL', what} where what
--          is tasks, bytes or memory; {'MOVED', epoch} when the shard has another epoch; {'NONE'} with
--          only_known, when the task is not here; or an error
-- Effect: t: p: i: c: written, in ready, or in lease as far as straight allows, and in ttl, counted in bytes. A task that was cancelled
--         because its caller's connection was lost is stored anew: the caller is here again. A task that a script
--         has left half stored is stored anew, too. If a caller waits for a task that was there before, its transitions are published: L in t:.
local numbering, open, bytes
local parked -- read when it matters
-- What is written for all of them together.
local size, ttls, lists, callers = 0, {}, {}, {}
local added = {} -- by this turn

-- listen has the transitions of a task published for a caller who has come later, and waits.
local function listen(ulid, born)
  if string.sub(born, 2, 2) == '1' then redis.call('HSET', base .. 't:' .. ulid, 'L', '1') end
end

-- whole tells whether a task is completely stored. If a script failed midway, a task may be half stored: it is open,
-- but not in ttl, which is the last thing written that makes a task run. whole deletes the parts of such a task, unless it was tried, or has a record of a newer release.
local function whole(ulid)
  local t = base .. 't:' .. ulid
  if redis.call('EXISTS', t) == 0 then return false end -- as nearly always; to read fields costs more
  local v, s, x, m, n, q, u = unpack(redis.call('HMGET', t, 'v', 's', 'x', 'm', 'n', 'q', 'u'))
  if added[ulid] or m or n or q or not tonumber(x) or not tonumber(v) or tonumber(v) > NEWEST_RECORD then return true end
  if s ~= S_QUEUED and s ~= S_RUNNING then return true end
  if redis.call('ZADD', TTL, 'NX', x, ulid) == 0 then return true end
  redis.call('ZREM', TTL, ulid)
  redis.call('ZREM', base .. 'c:' .. (u or ''), ulid)
  redis.call('DEL', t, base .. 'p:' .. ulid)
  return false
end

-- refused returns the reply for a new task that may not be stored; nil if it may.
local function refused(placed_by, size)
  if numbering ~= placed_by then return {'MOVED', numbering} end
  if open >= max_queued then return {'FULL', 'tasks'} end
  if bytes + size > max_bytes then
    parked = parked or math.max(tonumber(redis.call('GET', base .. 'parked') or 0), 0)
    if bytes - parked + size > max_bytes then return {'FULL', 'bytes'} end
  end
  if memory == 'look' then
    local info = redis.call('INFO', 'memory')
    local used, limit = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
    -- The remaining memory is for answers, and for the scripts that drain the queues.
    memory = tonumber(limit) > 0 and tonumber(used) > 0.8 * tonumber(limit) and 'full' or ''
  end
  if memory == 'full' then return {'FULL', 'memory'} end
end

local function add(ulid, placed_by, only_known, version, ttl, born, procedure, caller, cause, call, key_hash, fingerprint, twin, schema, known, json)
  local t = base .. 't:' .. ulid
  local expires, state, lost, last_epoch
  if whole(ulid) then
    expires, state, lost, last_epoch = unpack(redis.call('HMGET', t, 'x', 's', 'i', 'e'))
  end
  local anew = state == S_CANCELLED and lost
  if expires and not anew then
    local kept, offer = string.match(born, '^%d%d(%d) (%S+)')
    listen(ulid, born)
    if kept == '1' then redis.call('HSET', t, 'g', '1') end
    if tonumber(offer) > tonumber(rare().last_offer(ulid)) then redis.call('HSET', t, 'j', offer) end
    return {'KNOWN', expires}
  end
  local refusal = only_known == '1' and not anew and {'NONE'} or refused(placed_by, #call)
  if key_hash ~= '' then
    local key, own_name = base .. 'i:' .. key_hash, ulid .. ' ' .. fingerprint
    local named = (refusal or not redis.call('SET', key, own_name, 'NX')) and redis.call('GET', key)
    if named then
      local other = string.sub(named, 1, 26)
      if whole(other) then
        local first = string.sub(named, 28)
        if first == fingerprint or first == twin then
          listen(other, born)
          return {'ATTACHED', other}
        end
        local G, H, I = unpack(redis.call('HMGET', base .. 't:' .. other, 'G', 'H', 'I'))
        -- Without a schema, Go can compare only with the call itself.
        local request = not G and redis.call('GET', base .. 'p:' .. other)
        return {'REUSED', first, G or '', H or '', I or '', request or ''}
      end
      if not refusal then redis.call('SET', key, own_name) end
    end
  end
  if refusal then return refusal end

  -- If the task was passed over, it may still be in ready, and is then there twice. It is leased from the
  -- first place, and skipped at the other place, which passed counts already.
  if anew then
    redis.call('DEL', t)
    redis.call('ZREM', GONE, ulid .. ' ' .. caller)
  end
  -- First what is read most. The epoch is kept, so that an old lease does not fit the new task.
  expires = text(now + tonumber(ttl))
  local repeatable = string.sub(born, 1, 1)
  local held = straight > 0 and (repeatable == '1' or once >= 1)
  local e = held and epoch or last_epoch or '0'
  state = held and S_RUNNING or S_QUEUED
  if key_hash == '' then
    redis.call('HSET', t, 'v', version, 's', state, 'x', expires, 'o', micros(#ttls / 2), 'B', born .. text(now), 'u', caller,
      'e', e, 'p', procedure, 'h', cause)
  else
    local record = {t, 'v', version, 's', state, 'x', expires, 'o', micros(#ttls / 2), 'B', born .. text(now), 'u', caller,
      'e', e, 'p', procedure, 'h', cause, 'k', key_hash}
    if schema ~= '' then record[#record + 1], record[#record + 2] = 'G', schema end
    if known ~= '' then record[#record + 1], record[#record + 2] = 'H', known end
    if json == '1' then record[#record + 1], record[#record + 2] = 'I', json end
    redis.call('HSET', unpack(record))
  end
  redis.call('SET', base .. 'p:' .. ulid, call)

  open, bytes, size = open + 1, bytes + #call, size + #call
  if held then
    straight = straight - 1
    if repeatable ~= '1' then once = once - 1 end
    hold(ulid, 0, tonumber(repeatable), tonumber(ttl), '', 0)
  else
    ready[#ready + 1], own[ulid] = ulid, true
    note(ulid, S_QUEUED, false)
  end
  ttls[#ttls + 1], ttls[#ttls + 2], added[ulid] = expires, ulid, true
  if not lists[caller] then
    lists[caller] = {}
    callers[#callers + 1] = caller
  end
  local list = lists[caller]
  list[#list + 1], list[#list + 2] = '0', ulid
  return tonumber(expires)
end

-- add_all stores count calls, whose arguments begin at the given place.
local function add_all(count, at, replies)
  numbering = redis.call('GET', base .. 'numbering') or '0'
  open = redis.call('ZCARD', TTL)
  bytes = tonumber(redis.call('GET', base .. 'bytes') or 0)
  for _ = 1, count do
    local last = ARGV[at + 10] == '' and at + 10 or at + 15 -- with a key there is more
    replies[#replies + 1] = alone(add, unpack(ARGV, at, last))
    at = last + 1
  end
  if #ttls > 0 then
    for _, caller in ipairs(callers) do redis.call('ZADD', base .. 'c:' .. caller, unpack(lists[caller])) end
    if #ready > 0 then redis.call('RPUSH', READY, unpack(ready)) end
    write_held()
    redis.call('ZADD', TTL, unpack(ttls)) -- if one of those fails, these tasks are half stored
    redis.call('INCRBY', base .. 'bytes', size) -- if this fails, the end of a task sets it right
  end
end
