-- What installed Python packages add: tables under `dovecot`, and modules for `require`. Asked for when a script first
-- names one; how Python offers them is told in modules.py.

local core = ...
local host, dovecot, members = core.host, core.dovecot, core.members
local error, type, select, rawset, setmetatable = error, type, select, rawset, setmetatable
local load, unpack = loadstring or load, table.unpack or unpack
local module, call, call_now = host.module, host.module_call, host.module_call_now

-- The results of a function, after whatever it waits for.
local function finished(done, ...)
  if not done then
    error((...), 0)
  end
  return ...
end

local function answer(name, member, arguments, done, ...)
  if done ~= false then
    return finished(done, ...)
  end
  local function wished(waited, ...)
    if waited then
      return finished(...)
    end
    return finished(call_now(name, member, unpack(arguments, 1, arguments.n)))
  end
  return wished(core.wish("module", name, member, unpack(arguments, 1, arguments.n)))
end

local function caller(name, member)
  return function(...)
    return answer(name, member, { n = select("#", ...), ... }, call(name, member, ...))
  end
end

-- What `module` said of a name: nil, a loader of its source, or a table.
local function made(name, kind, ...)
  if kind == nil then
    local refusal = ...
    if refusal then
      error(refusal, 0)
    end
    return nil
  elseif kind == "source" then
    local chunk, message = load(...)
    if not chunk then
      error(message, 0)
    end
    return chunk
  end
  local result = {}
  for i = 1, select("#", ...), 2 do
    local key, value = select(i, ...)
    if value == nil then
      value = caller(name, key)
    end
    result[key] = value
  end
  return result
end

setmetatable(members, {
  __index = function(_, name)
    if type(name) ~= "string" then
      return nil
    end
    local value = made("dovecot." .. name, module("dovecot." .. name))
    if type(value) == "function" then
      value = value()
    end
    if value ~= nil then
      rawset(dovecot, name, value)
    end
    return value
  end,
})

local searchers = package.searchers or package.loaders
searchers[#searchers + 1] = function(name)
  local value = made(name, module(name))
  if type(value) == "table" then
    return function() return value end
  end
  return value
end
