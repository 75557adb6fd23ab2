-- Events: `dovecot.event()`, `req:event()` and what `passthrough_event()` gives.
--
-- An event is a table with the raw field `item` and a metatable, as in Dovecot. Ours lives wholly in Lua; Python hears
-- of it when it is logged. In `item`: parent, call (whose request it belongs to), prefix and whether that replaces
-- what stands before it, name, fields in the order they were set, and the two inherited flags.

local core = ...
local host_log, debugging, passthrough = core.host.log, core.debugging, core.passthrough
local expect, string_argument, integer_argument = core.expect, core.string, core.integer
local error, type, select, next, setmetatable, getmetatable = error, type, select, next, setmetatable, getmetatable
local getinfo, unpack = debug.getinfo, table.unpack or unpack
local DEBUG = core.options.debug

local Event = { __name = "struct event" }
local Passthrough = { __name = "struct event_passthrough" }
Event.__index, Passthrough.__index = Event, Passthrough

local function new(parent, call)
  return {
    parent = parent,
    call = call,
    fields = {},
    order = {},
    always_log_source = parent and parent.always_log_source,
    forced_debug = parent and parent.forced_debug,
  }
end

-- The file and line of the caller `level` functions up, as Dovecot's events carry them.
local function place(level)
  local info = getinfo(level + 1, "Sl")
  local file = info and info.source:match("^@(.*)$")
  if not file then
    return "<non-file location>"
  end
  return (file:match("[^/]*$")) .. ":" .. info.currentline
end

-- The innards of the receiver, which must be an event of this kind and, for a passthrough, not logged yet.
local function innards(receiver, kind)
  if getmetatable(receiver) ~= kind or type(receiver) ~= "table" then
    error("Bad argument #1, expected " .. kind.__name .. " got " .. type(receiver), 0)
  end
  local item = receiver.item
  if item.logged then
    error("Passthrough event is used after it was logged", 0)
  end
  return item
end

local function set(item, key, letter, value)
  if item.fields[key] == nil then
    item.order[#item.order + 1] = key
  end
  item.fields[key] = { letter, value }
end

-- Write the event: prefixes from the root down, and the fields of the whole chain, the nearest of a name counting.
local function emit(item, level, message, source)
  local name = item.name
  item.name = nil
  if level == "debug" and not (DEBUG or item.forced_debug or item.call and debugging[item.call]) then
    return
  end
  local replaced, seen, extra = nil, {}, {}
  local node = item
  while node do
    if node.prefix and not replaced then
      if node.replaces then
        replaced = node.prefix
      else
        message = node.prefix .. message
      end
    end
    for _, key in next, node.order do
      if not seen[key] then
        seen[key] = true
        local field = node.fields[key]
        local last = #extra
        extra[last + 1], extra[last + 2], extra[last + 3] = key, field[1], field[2]
      end
    end
    node = node.parent
  end
  host_log(level, item.call, message, name, replaced, source, unpack(extra))
end

-- ## Methods of both kinds; each gives back its receiver

for _, kind in next, { Event, Passthrough } do
  local function method(name, count, act)
    kind[name] = function(...)
      local receiver = ...
      local item = innards(receiver, kind)
      expect(select("#", ...), count + 1)
      act(item, select(2, ...))
      return receiver
    end
  end

  -- The checks of arguments stand in the function a script calls, so that an error names the script's line.
  local function prefix_method(name, replaces)
    kind[name] = function(...)
      local receiver, prefix = ...
      local item = innards(receiver, kind)
      expect(select("#", ...), 2)
      item.prefix, item.replaces = string_argument(prefix, 1, name), replaces
      return receiver
    end
  end
  prefix_method("append_log_prefix", false)
  prefix_method("replace_log_prefix", true)

  function kind.set_name(...)
    local receiver, name = ...
    local item = innards(receiver, kind)
    expect(select("#", ...), 2)
    item.name = string_argument(name, 1, "set_name")
    return receiver
  end

  method("set_always_log_source", 0, function(item)
    item.always_log_source = true
  end)

  function kind.add_str(...)
    local receiver, key, value = ...
    local item = innards(receiver, kind)
    expect(select("#", ...), 3)
    set(item, string_argument(key, 1, "add_str"), "s", string_argument(value, 2, "add_str"))
    return receiver
  end

  local function integer_method(name, letter, add)
    kind[name] = function(...)
      local receiver, key, value = ...
      local item = innards(receiver, kind)
      expect(select("#", ...), 3)
      key, value = string_argument(key, 1, name), integer_argument(value, 2, name)
      local before = add and item.fields[key]
      if before and before[1] == "i" then
        value = before[2] + value
      end
      set(item, key, letter, value)
      return receiver
    end
  end
  integer_method("add_int", "i")
  integer_method("inc_int", "i", true)
  integer_method("add_timeval", "t")

  for _, level in next, { "debug", "info", "warning", "error" } do
    local name = "log_" .. level
    kind[name] = function(...)
      local receiver, message = ...
      local item = innards(receiver, kind)
      expect(select("#", ...), 2)
      message = string_argument(message, 1, name)
      emit(item, level, message, item.always_log_source and place(2) or nil)
      if kind == Passthrough then
        item.logged = true
        passthrough[item.owner] = nil
      end
      return receiver
    end
  end

  if kind == Event and core.options.has_forced_debug then
    method("set_forced_debug", 0, function(item)
      item.forced_debug = true
    end)
    method("unset_forced_debug", 0, function(item)
      item.forced_debug = false
    end)
  end
end

-- A child for one message. Dovecot has one at a time; a script that leaks one hears of it.
function Event.passthrough_event(...)
  local item = new(innards(..., Event), (...).item.call)
  expect(select("#", ...), 1)
  local owner = core.current or 0
  if passthrough[owner] then
    core.leak(owner)
  end
  item.owner, item.place = owner, place(2)
  passthrough[owner] = item
  return setmetatable({ item = item }, Passthrough)
end

-- The call ends, or begins another passthrough event, before this one was logged.
function core.leak(owner)
  local item = passthrough[owner]
  passthrough[owner] = nil
  item.logged = true
  host_log("error", item.call, "Passthrough event leaked by Lua script at " .. item.place)
end

-- ## Where events come from

-- A new event below that of the request of `call`.
function core.request_event(call)
  return setmetatable({ item = new(nil, call) }, Event)
end

local script_event = new()
set(script_event, "script", "s", core.options.script)

function core.members.event(...)
  local count, parent = select("#", ...), ...
  expect(count, 0, 1)
  if count == 0 then
    return setmetatable({ item = new(script_event) }, Event)
  end
  local above = innards(parent, Event)
  return setmetatable({ item = new(above, above.call) }, Event)
end

-- ## For tables that have events of their own
--
-- They keep the innards of an event, and make an object of them when a script wants one.

function core.innards_of(event)
  return getmetatable(event) == Event and event.item or nil
end

function core.event_of(item)
  return setmetatable({ item = item }, Event)
end

-- Innards below `parent`, which is `false` for none and by default the script's own.
function core.below(parent, prefix)
  if parent == nil then
    parent = script_event
  end
  local item = new(parent or nil, parent and parent.call)
  item.prefix = prefix
  return item
end

function core.wants_debug(item)
  return DEBUG or item.forced_debug or item.call and debugging[item.call]
end

-- Write a line below `parent`, with a name (if it is not empty) and keys and values; `forced`: also when at debug level.
function core.note(parent, forced, level, message, name, ...)
  local item = new(parent, parent.call)
  item.name, item.forced_debug = name ~= "" and name or nil, forced or item.forced_debug
  for i = 1, select("#", ...), 2 do
    local key, value = select(i, ...)
    set(item, key, type(value) == "string" and "s" or "i", value)
  end
  emit(item, level, message)
end

return {
  -- For Python: a new event with its prefix, keys and values, below `parent` if there is one.
  push = function(parent, prefix, ...)
    local item = new(parent and parent.item or script_event)
    item.prefix = prefix
    for i = 1, select("#", ...), 2 do
      local key, value = select(i, ...)
      set(item, key, type(value) == "string" and "s" or "i", value)
    end
    return setmetatable({ item = item }, Event)
  end,
}
