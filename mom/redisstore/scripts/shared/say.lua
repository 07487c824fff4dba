-- note is publish for scripts that change many tasks: it collects transitions, and say publishes all of them in one message. Each is a ulid and a state; if there is
-- an answer, =, its length, a blank and the answer follow. A transition that nobody waits for at another MOM is left out;
-- but one such transition is published every second, so that each MOM knows that something happens in the shard.
local STIR = 1000

local noted, quiet, quiet_state = {}, nil, nil
local function note(ulid, state, waited_for, answer)
  if not waited_for then
    quiet, quiet_state = ulid, state
    return
  end
  if answer then state = state .. '=' .. #answer .. ' ' .. answer end
  noted[#noted + 1] = ulid .. state
end

local function say()
  if #noted == 0 and quiet and redis.call('SET', base .. 'stir', '', 'PX', STIR, 'NX') then noted[1] = quiet .. quiet_state end
  if #noted == 1 and #noted[1] == 27 then
    tell(string.sub(noted[1], 1, 26), string.sub(noted[1], 27)) -- the release before can read this form
  elseif #noted > 0 then
    redis.call('PUBLISH', base .. 'events', 'many ' .. table.concat(noted, ' '))
  end
end
