-- The auth_request object a script gets, one new table for each call.
--
-- Raw fields are `item` (the number of the call), the tables `passdb` and `userdb`, and four booleans; all else comes
-- from the metatable: the user at hand, other variables from Python when they are first read, and the methods.
-- When the call has returned, its object is dead.

local core = ...
local host, options, debugging = core.host, core.options, core.debugging
local string_argument, checked = core.string, core.checked
local error, type, rawget, select = error, type, rawget, select
local getmetatable, setmetatable, tostring = getmetatable, setmetatable, tostring
local member, field, variables = host.member, host.field, options.variables

local methods = {}

-- ## The view of one slot

-- 0 to 31 → the five booleans that Python sends as one number.
local FLAGS = {}
for number = 0, 31 do
  local bits, rest = {}, number
  for bit = 1, 5 do
    bits[bit] = rest % 2 == 1
    rest = (rest - rest % 2) / 2
  end
  FLAGS[number] = bits
end

-- Two functions for a slot: one makes the request object of a call, the other ends its life.
function core.new_view()
  local call, user, members

  local function stale()
    error("auth_request is used after its call has returned", 3)
  end

  local request = { __name = "auth_request*" }
  function request.__index(self, name)
    if name == "item" then
      return nil
    elseif self.item ~= call then
      stale()
    elseif name == "user" then
      return user
    elseif methods[name] then
      return methods[name]
    end
    name = string_argument(name, 2, "index")
    if not variables[name] then
      return nil
    end
    members = members or {}
    local value = members[name]
    if value == nil then
      value = checked(member(call, name)) or false
      members[name] = value
    end
    return value or nil
  end

  -- The number of the call this object belongs to, while it runs; the methods' way to it.
  function request.call_of(self)
    if rawget(self, "item") ~= call then
      error("auth_request is used after its call has returned", 0)
    end
    return call
  end

  local function fields(database)
    return {
      __index = function(self, name)
        if rawget(self, "item") ~= call then
          stale()
        end
        return checked(field(call, database, string_argument(name, 2, "index")))
      end,
    }
  end
  local passdb, userdb = fields("passdb"), fields("userdb")

  local function open(new_call, new_user, flags)
    call, user, members = new_call, new_user, nil
    local bits = FLAGS[flags]
    if bits[5] then
      debugging[call] = true
    end
    return setmetatable({
      item = call,
      passdb = setmetatable({ item = call }, passdb),
      userdb = setmetatable({ item = call }, userdb),
      skip_password_check = bits[1],
      passdbs_seen_user_unknown = bits[2],
      passdbs_seen_internal_failure = bits[3],
      userdbs_seen_internal_failure = bits[4],
    }, request)
  end

  local function shut()
    call, user, members = nil, nil, nil
  end

  return open, shut
end

-- The call a method is for.
local function call_of(self)
  local meta = type(self) == "table" and getmetatable(self)
  if not (meta and type(meta) == "table" and rawget(meta, "call_of")) then
    error("Bad argument #1, expected auth_request got " .. type(self), 0)
  end
  return meta.call_of(self)
end

-- ## Methods; unlike elsewhere, nobody counts their arguments

for _, level in next, { "debug", "info", "warning", "error" } do
  local name, log = "log_" .. level, host.log
  local quiet = level == "debug" and not options.debug or level == "info" and not options.verbose
  local ignores_arguments = level == "debug" and quiet and not options.is_2_4
  methods[name] = function(...)
    local self, message = ...
    if ignores_arguments and not (type(self) == "table" and debugging[rawget(self, "item")]) then
      return
    end
    local call = call_of(self)
    message = string_argument(message, 1, name, select("#", ...) - 1)
    if not quiet or debugging[call] then
      log(level, call, "db-lua: " .. message)
    end
  end
end

do
  local expand = host.expand_for
  function methods.var_expand(...)
    local self, template = ...
    local call = call_of(self)
    return checked(expand(call, string_argument(template, 1, "var_expand", select("#", ...) - 1)))
  end
end

if options.has_response_from_template then
  local respond = host.response_from_template
  local function table_of(done, ...)
    if not done then
      error((...), 0)
    end
    local result = {}
    for i = 1, select("#", ...), 2 do
      local key, value = select(i, ...)
      result[key] = value
    end
    return result
  end
  function methods.response_from_template(...)
    local self, template = ...
    local call = call_of(self)
    template = string_argument(template, 1, "response_from_template", select("#", ...) - 1)
    return table_of(respond(call, template))
  end
end

do
  local verify, verify_now = host.password_verify, host.password_verify_now
  function methods.password_verify(...)
    local self, crypted, plain = ...
    local call = call_of(self)
    -- anything but a text or a number is nil to Dovecot here
    if type(crypted) ~= "string" and type(crypted) ~= "number" then
      error("Crypted password must not be nil", 0)
    elseif type(plain) ~= "string" and type(plain) ~= "number" then
      error("Plain password must not be nil", 0)
    end
    crypted, plain = tostring(crypted), tostring(plain)
    local code, text = verify(call, crypted, plain)
    if code == false then -- a hash that takes its time
      local waited
      waited, code, text = core.wish("password_verify", crypted, plain)
      if not waited then
        code, text = verify_now(call, crypted, plain)
      end
    end
    if code == nil then
      error(text, 0)
    end
    return code + 0.0, text
  end
end

function methods.event(self)
  return core.request_event(call_of(self))
end
