-- dovecot.dns{…}: host names become addresses. And dovecot.sleep.

local core = ...
local expect, string_argument = core.expect, core.string
local error, type, select, tonumber = error, type, select, tonumber

local make, own

make, own = core.maker("dns_client", {
  lookup = function(...)
    local count, self, name, event = select("#", ...), ...
    expect(count, 2, 3)
    local settings = own(self)
    name = string_argument(name, 1, "lookup")
    if count > 2 and not core.innards_of(event) then
      error("Bad argument #3, expected struct event got " .. type(event), 0)
    end
    return core.ask("dns", settings, name)
  end,
})
core.members.dns = make

-- Wait for so many seconds; an addition of ours.
function core.members.sleep(...)
  expect(select("#", ...), 1)
  local seconds = tonumber((...))
  if not seconds or seconds ~= seconds or seconds < 0 or seconds >= 2 ^ 31 then
    error("bad argument #1 to 'sleep' (number of seconds expected, got " .. tostring((...)) .. ")", 2)
  end
  core.ask("sleep", seconds)
end
