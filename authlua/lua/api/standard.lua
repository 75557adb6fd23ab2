-- What a Lua keeps of the version before it when it is built as its makefile says, and as it comes in the wheel does
-- not. Dovecot's scripts have the former, be it that of Debian or of the source. `bit32.lua` belongs to it.

local core = ...
local host, version = core.host, core.options.version
local number, integer = core.number, core.integer
local math_log, next, type = math.log, next, type

local function add(library, functions)
  for name, fn in next, functions do
    if library[name] == nil then
      library[name] = fn
    end
  end
end

local function log10(x)
  return math_log(number(x, 1, "log10"), 10)
end

if version == "5.2" then
  add(math, { log10 = log10 })
  add(package, { loaders = package.searchers })
  add(_G, { loadstring = load, unpack = table.unpack })
  add(table, {
    maxn = function(list)
      local last = 0
      for key in next, list do
        if type(key) == "number" and key > last then
          last = key
        end
      end
      return last
    end,
  })
elseif version == "5.3" or version == "5.4" then
  local cosh, frexp, ldexp, sinh, tanh = host.cosh, host.frexp, host.ldexp, host.sinh, host.tanh
  add(math, {
    atan2 = math.atan,
    log10 = log10,
    pow = function(x, y)
      return number(x, 1, "pow") ^ number(y, 2, "pow")
    end,
    frexp = function(x)
      return frexp(number(x, 1, "frexp"))
    end,
    ldexp = function(x, exponent)
      return (ldexp(number(x, 1, "ldexp"), integer(exponent, 2, "ldexp")))
    end,
    cosh = function(x)
      return (cosh(number(x, 1, "cosh")))
    end,
    sinh = function(x)
      return (sinh(number(x, 1, "sinh")))
    end,
    tanh = function(x)
      return (tanh(number(x, 1, "tanh")))
    end,
  })
end
