-- The `dovecot` table itself: plain log lines, flags, restricted globals, constants; and what 2.4 added to it.
-- Functions are members of its metatable, so `pairs(dovecot)` shows only sub-tables, as in Dovecot.

local core = ...
local host, dovecot, members, options = core.host, core.dovecot, core.members, core.options
local expect, string_argument, integer_argument, checked = core.expect, core.string, core.integer, core.checked
local error, type, rawset, select, setmetatable = error, type, rawset, select, setmetatable
local globals = _G

members.__index = members
members.__name = "dovecot"

-- ## Log lines bound to no request; always written, debug too

for _, level in next, { "debug", "info", "warning", "error" } do
  local name, log = "i_" .. level, host.log
  members[name] = function(...)
    expect(select("#", ...), 1)
    log(level, nil, string_argument(..., 1, name))
  end
end

-- ## Flags

for name, callback in next, { has_flag = host.has_flag, set_flag = host.set_flag, clear_flag = host.clear_flag } do
  members[name] = function(...)
    expect(select("#", ...), 2)
    local value, flag = ...
    return checked(callback(integer_argument(value, 1, name), integer_argument(flag, 2, name)))
  end
end

-- ## Globals

-- A metatable for _G under which a misspelt global is an error (the texts are Dovecot's).
function members.restrict_global_variables(...)
  expect(select("#", ...), 1)
  if (...) ~= true then
    setmetatable(globals, {})
    return
  end
  setmetatable(globals, {
    __index = function(_, name)
      name = string_argument(name, 2, "index")
      error("attempt to write to read undeclared global variable " .. name, 0)
    end,
    __newindex = function(table, name, value)
      if type(value) ~= "function" then
        name = string_argument(name, 2, "newindex")
        error("attempt to write to undeclared global variable " .. name, 0)
      end
      rawset(table, name, value)
    end,
  })
end

-- ## Constants; floats where Lua has them

if options.is_auth then
  dovecot.auth = setmetatable({
    PASSDB_RESULT_OK = 1.0,
    PASSDB_RESULT_PASSWORD_MISMATCH = 0.0,
    PASSDB_RESULT_INTERNAL_FAILURE = -1.0,
    PASSDB_RESULT_SCHEME_NOT_AVAILABLE = -2.0,
    PASSDB_RESULT_USER_UNKNOWN = -3.0,
    PASSDB_RESULT_USER_DISABLED = -4.0,
    PASSDB_RESULT_PASS_EXPIRED = -5.0,
    PASSDB_RESULT_NEXT = -6.0,
    USERDB_RESULT_OK = 1.0,
    USERDB_RESULT_INTERNAL_FAILURE = -1.0,
    USERDB_RESULT_USER_UNKNOWN = -2.0,
  }, { __name = "dovecot_auth" })
end

if not options.is_2_4 then
  return
end

-- ## Since 2.4.0

dovecot.dict = {
  ITERATE_FLAG_RECURSE = 1.0,
  ITERATE_FLAG_SORT_BY_KEY = 2.0,
  ITERATE_FLAG_SORT_BY_VALUE = 4.0,
  ITERATE_FLAG_NO_VALUE = 8.0,
  ITERATE_FLAG_EXACT_KEY = 16.0,
  ITERATE_FLAG_ASYNC = 32.0,
}
dovecot.doveadm_client = { DOVEADM_PROXY_TTL = 5.0 }

function members.gettimeofday()
  local seconds, microseconds = host.clock()
  return { tv_sec = seconds, tv_usec = microseconds }
end

do
  local nanoseconds, microseconds = host.nanoseconds, host.microseconds
  function members.nanoseconds()
    return checked(nanoseconds())
  end
  function members.microseconds()
    return checked(microseconds())
  end
end

-- A function of one string, done by Python.
local function one_string(name, callback)
  return function(...)
    expect(select("#", ...), 1)
    return checked(callback(string_argument(..., 1, name)))
  end
end

members.net_ip_family = one_string("net_ip_family", host.net_ip_family)
members.tabescape = one_string("tabescape", host.tabescape)

local tabunescape = host.tabunescape
members.tabunescape = one_string("tabunescape", tabunescape)

function members.split_tabescaped(...)
  expect(select("#", ...), 1)
  local text = string_argument(..., 1, "split_tabescaped")
  local words = {}
  if text ~= "" then
    for word in (text .. "\t"):gmatch("([^\t]*)\t") do
      words[#words + 1] = checked(tabunescape(word))
    end
  end
  return words
end

-- ## Since 2.4.2

if options.has_base64 then
  dovecot.base64 = {
    encode = one_string("encode", host.base64_encode),
    decode = one_string("decode", host.base64_decode),
  }
  members.var_expand = one_string("var_expand", host.expand)
end
