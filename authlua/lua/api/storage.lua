-- What a mail script sees: `dovecot.storage`, and the objects mail_user, mailbox and mail.
--
-- An object is a plain table of fields whose `item` is a userdata; methods go by the item alone, so a script may do with
-- the fields what it likes. Names, checks and texts are those of Dovecot's lib-storage-lua. Where that would end
-- Dovecot's process, here it is an error, or it just works.

local core, host = ...
local expect, checked, protected = core.expect, core.checked, core.protected
local type, rawget, select, error, next, pcall, tostring = type, rawget, select, error, next, pcall, tostring
local tonumber, setmetatable, getmetatable, floor, ceil = tonumber, setmetatable, getmetatable, math.floor, math.ceil
local getinfo, collect, integer_kind = debug.getinfo, collectgarbage, math.type
local unpack, globals, is_2_4 = table.unpack or unpack, _G, core.options.is_2_4

-- ## Arguments

local CALL = pcall(getinfo, 1, "t") and "nt" or "n"

-- As Lua's own checker words it: the receiver of a method is not counted, and a function without a name is '?'.
-- Called by a checker that a method called. Where the method was called in a `return`, Lua has forgotten its line.
local function bad_argument(position, name, problem)
  local call, level = getinfo(3, CALL), 4
  if call.namewhat == "method" or call.istailcall then
    position = position - 1
    level = call.istailcall and 0 or level
  else
    name = call.name or "?"
  end
  error("bad argument #" .. position .. " to '" .. name .. "' (" .. problem .. ")", level)
end

-- The userdata of an object of `class`.
local function item_of(self, class)
  local item = type(self) == "table" and rawget(self, "item")
  if type(item) ~= "userdata" then
    error("Bad argument #1, expected " .. class .. " got " .. type(self), 0)
  end
  return item
end

local function string_argument(value, position, name)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind ~= "number" then
    bad_argument(position, name, "string expected, got " .. kind)
  end
  return tostring(value)
end

local function integer_argument(value, position, name)
  local number = type(value) == "number" and value or type(value) == "string" and tonumber(value)
  if not number then
    bad_argument(position, name, "number expected, got " .. type(value))
  end
  local integer = number >= 0 and floor(number) or ceil(number)
  if integer_kind and (integer ~= number or integer_kind(integer) ~= "integer") then
    bad_argument(position, name, "number has no integer representation")
  end
  return integer
end

-- The keys of a metadata call, all of them strings.
local function key_arguments(self, class, ...)
  local count = select("#", ...)
  local item = item_of(self, class)
  if count == 0 then
    error("expecting at least 1 parameter", 0)
  end
  local keys = { ... }
  for i = 1, count do
    local kind = type(keys[i])
    if kind ~= "string" and kind ~= "number" then
      error("expected string at #" .. i + 1, 0)
    end
    keys[i] = tostring(keys[i])
  end
  return item, unpack(keys, 1, count)
end

-- What a callback returned after its `true`; or the error it refused with.
local function given(done, ...)
  if not done then
    error((...), 0)
  end
  return ...
end

-- ## Constants

do
  local storage = { __name = "storage" }
  storage.__index = storage
  core.dovecot.storage = setmetatable(given(host.constants()), storage)
end

-- ## Methods that mail_user and mailbox have in common

local function pairs_to_table(...)
  local values, result = { ... }, {}
  for i = 1, #values, 2 do
    result[values[i]] = values[i + 1]
  end
  return result
end

local function add_metadata(methods, class)
  function methods.metadata_get(self, ...)
    return given(host.metadata_get(key_arguments(self, class, ...)))
  end
  function methods.metadata_list(self, ...)
    return pairs_to_table(given(host.metadata_list(key_arguments(self, class, ...))))
  end
  function methods.metadata_set(...)
    expect(select("#", ...), 3)
    local self, key, value = ...
    local item = item_of(self, class)
    key = string_argument(key, 2, "metadata_set")
    local kind = type(value)
    value = (kind == "string" or kind == "number") and tostring(value) or nil
    given(host.metadata_set(item, key, value))
  end
  function methods.metadata_unset(...)
    expect(select("#", ...), 2)
    local self, key = ...
    local item = item_of(self, class)
    key = string_argument(key, 2, "metadata_unset")
    given(host.metadata_set(item, key, nil))
  end
end

-- Order of two objects by the text that `of` finds for their items.
local function add_order(methods, class, of)
  local function both(a, b)
    if type(a) ~= "table" then
      error("Bad argument #1, expected " .. class .. " got " .. type(a), 0)
    elseif type(b) ~= "table" or type(rawget(b, "item")) ~= "userdata" then
      error("Bad argument #2, expected " .. class .. " got " .. type(b), 0)
    end
    return given(of(item_of(a, class))), given(of(rawget(b, "item")))
  end
  function methods.__eq(a, b)
    if getmetatable(a) ~= methods or getmetatable(b) ~= methods then
      return false
    end
    local x, y = both(a, b)
    return x == y
  end
  function methods.__lt(a, b)
    local x, y = both(a, b)
    return x < y
  end
  function methods.__le(a, b)
    local x, y = both(a, b)
    return x <= y
  end
  function methods.__tostring(self)
    return (given(of(item_of(self, class))))
  end
end

-- ## mailbox

local MAILBOX = "struct mailbox"
local mailbox = { __name = MAILBOX }
mailbox.__index = mailbox
local alive = setmetatable({}, { __mode = "k" }) -- object of mailbox → its item, until it is freed or collected

local function new_mailbox(item, vname, name)
  local object = setmetatable({ item = item, vname = vname, name = name }, mailbox)
  alive[object] = item
  return object
end

for name, callback in next, { open = host.open, close = host.close } do
  mailbox[name] = function(...)
    expect(select("#", ...), 1)
    given(callback(item_of(..., MAILBOX)))
  end
end

function mailbox.free(...)
  expect(select("#", ...), 1)
  given(host.free(item_of(..., MAILBOX)))
  alive[...] = nil
end

function mailbox.sync(...)
  local count = select("#", ...)
  expect(count, 1, 2)
  local self, flags = ...
  local item = item_of(self, MAILBOX)
  flags = count == 2 and integer_argument(flags, 2, "sync") or 0
  given(host.sync(item, flags))
end

local STATUS = {
  "mailbox", "messages", "recent", "uidvalidity", "uidnext", "unseen", "first_unseen_seq", "first_recent_uid",
  "highest_modseq", "highest_pvt_modseq", "permanent_flags", "flags", "nonpermanent_modseqs", "no_modseq_tracking",
  "permanent_keywords", "allow_new_keywords", "have_guids", "have_save_guids", "have_only_guid128",
}

local function status_table(...)
  local result, count = {}, #STATUS
  for i = 1, count do
    result[STATUS[i]] = (select(i, ...))
  end
  if select(count + 1, ...) then
    result.keywords = { select(count + 2, ...) }
  end
  return result
end

function mailbox.status(...)
  local count = select("#", ...)
  if count < 2 then
    error("expecting at least 1 parameter", 0)
  end
  local item = item_of(..., MAILBOX)
  local items = { select(2, ...) }
  for i = 1, count - 1 do
    items[i] = integer_argument(items[i], i + 1, "status")
  end
  return status_table(given(host.status(item, unpack(items, 1, count - 1))))
end

add_metadata(mailbox, MAILBOX)
add_order(mailbox, MAILBOX, host.vname)

-- ## mail

local MAIL = "struct mail"
local mail = { __name = MAIL }
mail.__index = mail
local places = setmetatable({}, { __mode = "k" }) -- mail → { the item of its mailbox, uid }

local function place_of(self, position)
  local place = places[self]
  if not place then
    error("Bad argument #" .. position .. ", expected " .. MAIL .. " got " .. type(self), 0)
  end
  return place
end

function mail.__tostring(self)
  local place = place_of(self, 1)
  return "<" .. given(host.vname(place[1])) .. ":UID " .. ("%d"):format(place[2]) .. ">"
end

local function same_mailbox(a, b)
  return a[1] == b[1] or given(host.vname(a[1])) == given(host.vname(b[1]))
end

function mail.__eq(a, b)
  a, b = places[a], places[b]
  return a ~= nil and b ~= nil and a[2] == b[2] and same_mailbox(a, b)
end

function mail.__lt(a, b)
  a, b = place_of(a, 1), place_of(b, 2)
  if not same_mailbox(a, b) then
    error("For lt, Mail can only be compared within same mailbox", 0)
  end
  return a[2] < b[2]
end

function mail.__le(a, b)
  a, b = place_of(a, 1), place_of(b, 2)
  if not same_mailbox(a, b) then
    error("For le, mails can only be within same mailbox", 0)
  end
  return a[2] <= b[2]
end

function mail.__gc() end

local function new_mail(fields, item, vname, name, uid)
  fields.item, fields.mailbox, fields.uid = item, new_mailbox(item, vname, name), uid
  fields.expunged = false
  places[fields] = { item, uid }
  return setmetatable(fields, mail)
end

-- ## The way to mails, which is ours: `for mail in mailbox:mails{ unseen = true, headers = { "Subject" } } do`
--
-- A mail comes when the loop asks for it, so a mailbox may be as large as it likes. Besides Dovecot's fields it has
-- `flags` and `keywords` (arrays), `size`, `received`, and in `headers` the decoded fields that were asked for.

local OPTIONS = { unseen = "boolean", keyword = "string", first_uid = "number", headers = "table" }

local function next_mail(vname, name, item, cursor, wanted)
  local uid, fields = given(host.next_mail(cursor))
  if fields == nil then
    return nil
  end
  if wanted then
    fields.headers = pairs_to_table(given(host.mail_headers(cursor, unpack(wanted))))
  end
  return new_mail(fields, item, vname, name, uid)
end

local function mails(...)
  expect(select("#", ...), 1, 2)
  local self, options = ...
  local item = item_of(self, MAILBOX)
  if options ~= nil and type(options) ~= "table" then
    error("bad argument #1 to 'mails' (table expected, got " .. type(options) .. ")", 2)
  end
  options = options or {}
  for option, value in next, options do
    if OPTIONS[option] ~= type(value) then
      error("bad option '" .. tostring(option) .. "' of 'mails' (" .. (OPTIONS[option] and OPTIONS[option]
        .. " expected, got " .. type(value) or "there is none of that name") .. ")", 2)
    end
  end
  local headers = options.headers
  for i = 1, headers and #headers or 0 do
    if type(headers[i]) ~= "string" then
      error("bad option 'headers' of 'mails' (names of header fields expected)", 2)
    end
  end
  local cursor, vname, name = given(host.mails(item, options.unseen or false, options.keyword, options.first_uid or 1))
  return function()
    return next_mail(vname, name, item, cursor, headers)
  end
end

setmetatable(mailbox, { __index = { mails = mails } }) -- where `pairs(getmetatable(mailbox))` shows Dovecot's only

-- ## mail_user

local USER = "struct mail_user"
local mail_user = { __name = USER }
mail_user.__index = mail_user

function mail_user.mailbox(...)
  local count = select("#", ...)
  expect(count, 2, 3)
  local self, name, flags = ...
  local item = item_of(self, USER)
  name = string_argument(name, 2, "mailbox")
  flags = count == 3 and integer_argument(flags, 3, "mailbox") or 0
  return new_mailbox(given(host.mailbox(item, name, flags)))
end

function mail_user.var_expand(...)
  expect(select("#", ...), 2)
  local self, template = ...
  local item = item_of(self, USER)
  template = string_argument(template, 2, "var_expand")
  return (given(host.var_expand(item, template)))
end

if not is_2_4 then
  function mail_user.plugin_getenv(...)
    expect(select("#", ...), 2)
    local self, key = ...
    local item = item_of(self, USER)
    key = string_argument(key, 2, "plugin_getenv")
    return (given(host.plugin_getenv(item, key)))
  end
end

add_metadata(mail_user, USER)
add_order(mail_user, USER, host.username)

-- ## For Python

-- A hook's number as Dovecot's C reads it: what is none counts as 0, fractions are cut off.
local function number_of(value)
  local number = tonumber(value)
  if not number or number ~= number or type(value) == "boolean" then
    return 0
  end
  return number
end

return {
  -- Call the global function `name` with a new object of the user whose fields these are.
  -- `true`, whether it returned a negative number, and its text, then keys and values of a third result that is a
  -- table; `false` and the error; nothing if there is no such function.
  hook = function(name, fields)
    local fn = rawget(globals, name)
    if type(fn) ~= "function" then
      return
    end
    local ok, number, text, more = protected(fn, setmetatable(fields, mail_user))
    if not ok then
      return false, number
    end
    local kind, flat = type(text), {}
    for key, value in next, type(more) == "table" and more or {} do
      flat[#flat + 1], flat[#flat + 2] = tostring(key), tostring(value)
    end
    return true, number_of(number) <= -1, (kind == "string" or kind == "number") and tostring(text) or nil, unpack(flat)
  end,

  -- A push notification's transaction with one event; the errors. Nothing is called when the script has no function
  -- for any event.
  notify = function(suffix, fields, event)
    local prefix, wanted, failures = "dovecot_lua_notify_", false, {}
    for name, value in next, globals do
      if type(name) == "string" and name:find("^dovecot_lua_notify_event_") and type(value) == "function" then
        wanted = true
      end
    end
    local function call(name, ...)
      local fn = rawget(globals, prefix .. name)
      local ok, result
      if type(fn) == "function" then
        ok, result = protected(fn, ...)
      else
        result = "Missing function " .. prefix .. name
      end
      if not ok then
        failures[#failures + 1] = result or "(null)"
      end
      return ok, result
    end
    if not wanted then
      return
    end
    local ok, context = call("begin_txn", setmetatable(fields, mail_user))
    if ok then
      if rawget(globals, prefix .. "event_" .. suffix) then
        call("event_" .. suffix, context, event)
      end
      call("end_txn", context, true)
    end
    return unpack(failures)
  end,

  -- Collect what can be; the items of the mailboxes that are left and not freed.
  survivors = function()
    collect()
    if next(alive) then
      collect() -- who has a finalizer is gone after another round
    end
    local items, count = {}, 0
    for _, item in next, alive do
      count = count + 1
      items[count] = item
    end
    return unpack(items, 1, count)
  end,

  -- What a template's filter calls: the global function `name`, with a new object of the user if there are fields.
  -- Whether all is well, and its second result or what went wrong.
  filter = function(name, fields, ...)
    local fn = rawget(globals, name)
    if type(fn) ~= "function" then
      return false, "'" .. name .. "' is not a function"
    end
    local ok, status, value
    if fields then
      ok, status, value = protected(fn, setmetatable(fields, mail_user), ...)
    else
      ok, status, value = protected(fn, ...)
    end
    if not ok then
      local count = select("#", ...) + (fields and 1 or 0)
      return false, ("lua_pcall(%s, %d, 2) failed: %s"):format(name, count, status or "(null)")
    end
    local kind = type(value)
    value = (kind == "string" or kind == "number") and tostring(value) or nil
    if number_of(status) <= -1 then
      return false, value or "(null)"
    end
    return true, value or ""
  end,

  new_user = function(fields) return setmetatable(fields, mail_user) end,
  new_mailbox = new_mailbox,
  new_mail = new_mail,
}
