-- dovecot.dict{…}: keys and values in a file or a Redis, as Dovecot's processes see them. And what this object has in
-- common with those of dns.lua and doveadm.lua.
-- An object is a table with its methods; what belongs to it is kept here, under it.

local core = ...
local host, options = core.host, core.options
local expect, string_argument, integer_argument, checked = core.expect, core.string, core.integer, core.checked
local error, type, next, pairs, select, tostring, setmetatable = error, type, next, pairs, select, tostring, setmetatable
local unpack = table.unpack or unpack

-- ## Clients

local client, client_now = host.client, host.client_now

local function answered(done, ...)
  if done then
    return ...
  end
  error((...), 0)
end

local function asked(arguments, waited, ...)
  if waited then
    return ...
  end
  return answered(client_now(unpack(arguments, 1, arguments.n)))
end

-- What comes of a wish of `kind`; where Lua can not be left, done on the spot.
function core.ask(...)
  return asked({ n = select("#", ...), ... }, core.wish(...))
end

-- A function that makes objects of `kind`, with `methods`, from tables of settings.
function core.maker(kind, methods)
  local kept, meta = setmetatable({}, { __mode = "k" }), { __index = methods, __name = "struct " .. kind }
  local function own(object)
    local settings = kept[object]
    if settings == nil then
      error("Bad argument #1, expected struct " .. kind .. " got " .. type(object), 0)
    end
    return settings
  end
  local function new(settings)
    local object = setmetatable({}, meta)
    kept[object] = settings
    return object
  end
  local function make(...)
    expect(select("#", ...), 1)
    local given = ...
    if type(given) ~= "table" then
      error("bad argument #1 to '" .. kind .. "' (table expected, got " .. type(given) .. ")", 3)
    end
    local flat, count = {}, 0
    for name, value in pairs(given) do
      local plain = type(value) == "string" or type(value) == "number" or type(value) == "boolean"
      if not plain then
        value = {}
      end
      flat[count + 1], flat[count + 2] = tostring(name), value
      count = count + 2
    end
    return new(checked(client(kind, unpack(flat, 1, count))))
  end
  return make, own, new
end

-- ## Transactions

local transactions = setmetatable({}, { __mode = "k" })

local function open(transaction)
  local state = transactions[transaction]
  if state == nil then
    error("Bad argument #1, expected struct dict_txn got " .. type(transaction), 0)
  elseif state.over then
    error("dict transaction already " .. state.over, 0)
  end
  return state
end

local function check_key(key, user)
  if key:sub(1, 7) == "shared/" then
    return key
  elseif key:sub(1, 5) ~= "priv/" then
    error("Invalid dict key prefix", 0)
  elseif user == "" then
    error("priv/ dict key prefix requires username", 0)
  end
  return key
end

local function change(state, key, value)
  local changes = state.changes
  changes.n = changes.n + 2
  changes[changes.n - 1], changes[changes.n] = key, value
end

local function timestamp_part(timestamp, name)
  if type(timestamp) ~= "table" or not tonumber(timestamp[name]) then
    error(name .. " missing from table", 0)
  end
end

local transaction_methods = {
  set = function(...)
    expect(select("#", ...), 3)
    local self, key, value = ...
    local state = open(self)
    key, value = string_argument(key, 1, "set"), string_argument(value, 2, "set")
    change(state, check_key(key, state.user), value)
  end,
  unset = function(...)
    expect(select("#", ...), 2)
    local self, key = ...
    local state = open(self)
    change(state, check_key(string_argument(key, 1, "unset"), state.user), false)
  end,
  -- Neither driver keeps a time with a value, nor does anything but all at once.
  set_timestamp = function(...)
    expect(select("#", ...), 2)
    local self, timestamp = ...
    open(self)
    timestamp_part(timestamp, "tv_sec")
    timestamp_part(timestamp, "tv_nsec")
  end,
  set_non_atomic = function(...)
    expect(select("#", ...), 1)
    open((...))
  end,
  rollback = function(...)
    expect(select("#", ...), 1)
    open((...)).over = "aborted"
  end,
  commit = function(...)
    expect(select("#", ...), 1)
    local state = open((...))
    state.over = "committed"
    local changes = state.changes
    local done, problem =
      core.ask("dict", state.settings, "commit", state.user, state.seconds, unpack(changes, 1, changes.n))
    if not done then
      error("dict transaction commit failed: " .. problem, 0)
    end
  end,
}
local Transaction = { __index = transaction_methods, __name = "struct dict_txn" }

-- ## Dicts

local make, own, new

local function found(done, result)
  if not done then
    error(result, 0)
  end
  return result
end

-- The next key of an iteration and its values; all are fetched when the first is wanted.
local function step(...)
  expect(select("#", ...), 2)
  local state = ...
  if not state.pairs then
    state.pairs = found(core.ask("dict", state.settings, "iterate", state.path, state.flags, state.user))
    state.at = 1
  end
  local key, value = state.pairs[state.at], state.pairs[state.at + 1]
  state.at = state.at + 2
  if key ~= nil then
    return key, { value }
  end
end

local dict_methods = {
  lookup = function(...)
    local count, self, key, user = select("#", ...), ...
    expect(count, 2, 3)
    local settings = own(self)
    key, user = string_argument(key, 1, "lookup"), count > 2 and string_argument(user, 2, "lookup") or ""
    local values = found(core.ask("dict", settings, "lookup", check_key(key, user), user))
    if values[1] ~= nil then
      return { values[1] }
    end
    return nil
  end,
  iterate = function(...)
    local count, self, path, flags, user = select("#", ...), ...
    expect(count, 3, 4)
    local settings = own(self)
    path, flags = string_argument(path, 1, "iterate"), integer_argument(flags, 2, "iterate")
    user = count > 3 and string_argument(user, 3, "iterate") or ""
    return step, { settings = settings, path = check_key(path, user), flags = flags, user = user }
  end,
  transaction_begin = function(...)
    local count, self, user, seconds = select("#", ...), ...
    expect(count, 1, 3)
    local settings = own(self)
    user = count > 1 and string_argument(user, 1, "transaction_begin") or ""
    seconds = count > 2 and integer_argument(seconds, 2, "transaction_begin") or 0
    local transaction = setmetatable({}, Transaction)
    transactions[transaction] = { settings = settings, user = user, seconds = seconds, changes = { n = 0 } }
    return transaction
  end,
}
make, own, new = core.maker("dict", dict_methods)

-- In 2.4 the constants of dicts are in a table of this name.
local uri = host.dict_uri
local constants = core.dovecot.dict or {}
setmetatable(constants, {
  __name = "dovecot_dict",
  __call = function(_, ...)
    if type((...)) == "string" then
      expect(select("#", ...), 1)
      return new(checked(uri((...))))
    end
    return make(...)
  end,
})
if not options.is_2_4 then
  core.members.dict = constants
end
