-- Ends leased tasks with their answers.
--
-- ARGV: tombstone:ms small:bytes
--
-- For each task: ulid, epoch, state, told, answer, size. told is 1 when the end need not be published, because the MOM itself
-- gives the answer to those who wait for it; size is the size of the task's call, in bytes.
--
-- Returns: for each task 'OK', 'FENCED', or an error. 'OK' also when this lease has settled the task before.
-- Effect: a: written for the answer's TTL, p: gone; t: and i: outlive the answer by the tombstone, until
--         they are reaped. An answer of at most small bytes is published when somebody waits for it.
local ended, calls, gone, states = {}, {}, {}, {}
local freed = 0

-- settle_old is settle for a task that the release before has stored.
local function settle_old(ulid, epoch, state, answer)
  local task, reply = rare().held(ulid, epoch)
  if not task then return reply end
  if task.s == S_SUCCEEDED or task.s == S_FAILED then return 'OK' end
  if task.s ~= S_RUNNING then return 'FENCED' end
  redis.call('SET', base .. 'a:' .. ulid, answer, 'PX', task.w)
  redis.call('HSET', base .. 't:' .. ulid, 'a', now + task.w, 'n', task.m and task.n + 1 or task.n)
  rare().finish(ulid, task, state, task.w + tombstone) -- this also publishes the end in a message of its own: the caller may be at a MOM of that release
  return 'OK'
end

local function settle(ulid, epoch, state, told, answer, size)
  local t = base .. 't:' .. ulid
  local v, s, e, n, m, caller, born, listened = unpack(redis.call('HMGET', t, 'v', 's', 'e', 'n', 'm', 'u', 'B', 'L'))
  if not born or tonumber(v) ~= NEWEST_RECORD then return settle_old(ulid, epoch, state, answer) end
  if e ~= epoch then return 'FENCED' end
  if s == S_SUCCEEDED or s == S_FAILED then return 'OK' end
  if s ~= S_RUNNING then return 'FENCED' end
  local repeatable, waits, keep = string.match(born, '^(%d)(%d)%d %S+ (%d+)')
  redis.call('SET', base .. 'a:' .. ulid, answer, 'PX', keep)
  n = tonumber(n) or 0
  if m or repeatable == '1' then n = n + 1 end
  redis.call('HSET', t, 's', state, 'z', text(now), 'n', text(n))
  ended[#ended + 1], calls[#calls + 1] = ulid, base .. 'p:' .. ulid
  gone[#gone + 1], gone[#gone + 2] = text(now + tonumber(keep) + tombstone), ulid .. ' ' .. caller
  freed = freed + tonumber(size)
  states[state] = (states[state] or 0) + 1
  note(ulid, state, listened or told ~= '1' and waits == '1', #answer <= small and answer)
  return 'OK'
end

-- settle_all ends count tasks, whose arguments begin at the given place. Returns the place behind them.
local function settle_all(count, at, replies)
  for i = at, at + 6 * count - 1, 6 do replies[#replies + 1] = alone(settle, unpack(ARGV, i, i + 5)) end
  if #ended > 0 then
    redis.call('ZADD', GONE, unpack(gone))
    count_out(freed)
    redis.call('DEL', unpack(calls))
    for state, n in pairs(states) do count_ended(state, n) end
    redis.call('ZREM', LEASE, unpack(ended))
    redis.call('ZREM', TTL, unpack(ended)) -- last: if one of those fails, reap.lua finds these tasks here
  end
  return at + 6 * count
end
