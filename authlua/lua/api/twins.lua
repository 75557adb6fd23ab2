-- Twins of modules that block: `require` finds ours, whose functions wait without holding anybody up. Each file of
-- modules/ is one of them; it is run when a script first asks for it.

local core = ...
local host, options = core.host, core.options
local error, type, select, tostring, ipairs = error, type, select, tostring, ipairs
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

local check = {}
core.check = check

local function complain(position, name, problem)
  error("bad argument #" .. position .. " to '" .. name .. "' (" .. problem .. ")", 3)
end

local function got(value, count, position)
  return count and position > count and "no value" or type(value)
end

function check.complain(position, name, problem)
  error("bad argument #" .. position .. " to '" .. name .. "' (" .. problem .. ")", 3)
end

function check.string(value, position, name, count)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" then
    return tostring(value)
  end
  complain(position, name, "string expected, got " .. got(value, count, position))
end

function check.number(value, position, name, count)
  local number = type(value) == "number" and value or type(value) == "string" and tonumber(value)
  if number then
    return number
  end
  complain(position, name, "number expected, got " .. got(value, count, position))
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
