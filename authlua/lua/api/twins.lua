-- Twins of modules that block: `require` finds ours, whose functions wait without holding anybody up. Each file of
-- modules/ is one of them; it is run when a script first asks for it.

local core = ...
local host, options = core.host, core.options
local error, type, ipairs, tonumber, unpack = error, type, ipairs, tonumber, table.unpack or unpack
local load = loadstring or load

if not host.twin then
  return
end

-- ## What takes time
--
-- A function of Python that may take time gives true and its results, or false and an operation, which is the rest
-- of it. That is a wish; where Lua can not be left the rest is done on the spot.

local finish, leased = host.finish, core.leased

local function rest(operation, waited, ...)
  if waited then
    return ...
  end
  return finish(operation)
end

-- The results of such a function: `core.waited(host.f(...))`.
function core.waited(done, ...)
  if done then
    return ...
  elseif done == nil then
    error((...), 0)
  end
  return rest(..., core.wish("operation", ...))
end

-- The call that runs now. It may take hold of what others use too, so its end has to be told.
function core.holder()
  local call = core.current
  if call then
    leased[call] = true
  end
  return call
end

-- ## Arguments, checked as the auxiliary library of Lua checks them for C functions

local check = { string = core.string, number = core.number }
core.check = check

function check.complain(position, name, problem)
  error("bad argument #" .. position .. " to '" .. name .. "' (" .. problem .. ")", 3)
end

-- Arguments that may be missing, the first of which is number `position`; each letter of `kinds` is an s or an n.
function check.optional(kinds, position, name, ...)
  local given = { ... }
  for i = 1, #kinds do
    local kind = type(given[i])
    local wanted = kinds:sub(i, i) == "n" and "number" or "string"
    if kind ~= "nil" and kind ~= "string" and kind ~= "number" or wanted == "number" and given[i] and not tonumber(given[i]) then
      core.bad_argument(position + i - 1, name, wanted .. " expected, got " .. kind)
    end
  end
  return unpack(given, 1, #kinds)
end

-- ## Where modules come from

local made = {}

-- The twin of module `name`, whether or not `require` gives it to scripts.
function core.twin(name)
  if made[name] == nil then
    made[name] = load(host.twin(name), "=[authlua]")(core, name)
  end
  return made[name]
end

local function opened(name)
  return function()
    return core.twin(name)
  end
end

core.has_status = options.version ~= "5.1" and options.version ~= "luajit"
opened("popen")()

for name in options.twins:gmatch("%S+") do
  package.preload[name] = opened(name)
end

-- After all other places: what never waits, and is not there.
local searchers = package.searchers or package.loaders
searchers[#searchers + 1] = function(name)
  if (" " .. options.substitutes .. " "):find(" " .. name .. " ", 1, true) then
    return opened(name)
  end
end
