-- What every engine runs: calls in pooled coroutines, wishes that travel out of them, and the table `core`
-- from which the files of api/ build what a script sees.
--
-- Python calls the functions of the table returned at the end. Python's own callables come in `host`; each is kept
-- as an upvalue of the Lua functions that need it, takes and gives plain values, and answers nil and a text when it
-- refuses. Lua 5.1 to 5.5 and LuaJIT run this file, so it is written in what they share.

local host, options = ...

local create, resume, yield, running = coroutine.create, coroutine.resume, coroutine.yield, coroutine.running
local status_of, close, isyieldable = coroutine.status, coroutine.close, coroutine.isyieldable
local type, next, rawget, select, error, tostring = type, next, rawget, select, error, tostring
local tonumber, xpcall, pcall, setmetatable, concat = tonumber, xpcall, pcall, setmetatable, table.concat
local traceback, getinfo, sethook = debug.traceback, debug.getinfo, debug.sethook
local unpack, globals, jit = table.unpack or unpack, _G, jit
local integer_kind = math.type

-- How a step begins that is handed to Python; engine.py has the same numbers.
local DONE, RAISED, WISH, MISSING, REFUSED = 0, 1, 2, 3, 4

-- ## Python is closed first: no door in the globals, and what a callback looks like from here has no attributes.
-- A script may hold an object of ours; it has the methods that `kinds` gives it and nothing else.
local kinds = setmetatable({}, { __mode = "k" })
do
  python, package.loaded.python = nil, nil
  local registry = debug.getregistry()
  registry.Py_None = nil
  local callable = registry.POBJECT
  for name in next, callable do
    if name ~= "__call" and name ~= "__gc" then
      callable[name] = nil
    end
  end
  callable.__tostring = function(object)
    local methods = kinds[object]
    return methods and (methods.__text or methods.__shown and methods.__shown(object) or methods.__kind .. ": " .. host.identity(object)) or "authlua"
  end
  callable.__index = function(object, name)
    local methods = kinds[object]
    return methods and methods[name]
  end
  callable.__metatable = false
  collectgarbage() -- what only weak tables still hold of it
  collectgarbage("stop") -- until the script runs: what is built now is here to stay
end

local core = {
  host = host,
  options = options,
  dovecot = {},      -- the script's global: sub-tables
  members = {},      -- its functions, which `pairs(dovecot)` does not show
  debugging = {},    -- the calls whose request asked for debug lines
  passthrough = {},  -- call → its passthrough event that has not been logged yet
  current = nil,     -- the call that runs now; nil while the script loads
  kinds = kinds,
  leased = {},       -- the calls that hold something others may wait for
}

-- Give an object of Python its methods.
function core.object(object, methods)
  kinds[object] = methods
  return object
end

local debugging, passthrough, leased = core.debugging, core.passthrough, core.leased

-- ## Calls
--
-- A slot is a coroutine that runs one call after the other: a call that never waits costs one resume and one yield.

local WISHING = {}                            -- what a coroutine yields in front of a wish; no script holds it
local idle, idle_count = {}, 0                -- slots without a call
local waiting = {}                            -- call → slot, for calls whose wish is being fulfilled
local slots = setmetatable({}, { __mode = "k" })  -- coroutine → true, for those that are slots

local buffer = {}                             -- fields on their way out

-- What an auth function returned, as one flat step: the code, and the second result by its kind:
-- nil, a string (for a number, its text and "number"), `true` and a table's raw keys and values, or `false` and the
-- name of a type that cannot be used.
local function flatten(code, second)
  local kind = type(code)
  if kind ~= "number" then
    local number = kind == "string" and tonumber(code)
    if not number then
      return REFUSED, kind
    end
    code = number
  end
  kind = type(second)
  if kind == "table" then
    local last = 0
    for key, value in next, second do
      buffer[last + 1], buffer[last + 2] = key, value
      last = last + 2
    end
    if last > 4000 then
      return REFUSED, "table of more than 2000 fields"
    end
    return DONE, code, true, unpack(buffer, 1, last)
  elseif kind == "string" or kind == "nil" then
    return DONE, code, second
  elseif kind == "number" then
    return DONE, code, tostring(second), kind
  end
  return DONE, code, false, kind
end

-- ## The budget
--
-- Who runs this many instructions without waiting, or for this long, would hold everybody up. The hook comes every
-- STEP instructions of one coroutine, and counts those of one stretch of a call. When these were too many it comes at
-- every instruction, so that no pcall can keep the script going.
--
-- Time is looked at because an instruction may take long, above all one that makes a long string: a thousand of them
-- may take seconds. So the hook comes as well when Lua has been through its garbage, which happens the more often the
-- more a script allocates; and every FEW instructions while these take long.
--
-- Outside of calls, when a script loads, starts or ends, nobody waits for it, and it may take its time, but not for
-- ever. That holds for scripts without a budget, too.

local budget = options.budget > 0 and options.budget
local STEP, FEW = budget and math.min(budget, 1000) or 2500000, 10
local LONG = 0.0001                                   -- seconds, for FEW instructions
local cpu = host.cpu
local stretch, last_stretch, spender = 0, nil, nil    -- stretch: how often calls were continued
local spent, since                                    -- in this stretch: instructions, and the time at the first hook
local looked = 0                                      -- the time at the last hook
local overspent                                       -- the call that has used its budget up
local left, deadline                                  -- what runs outside of calls may use; nil when nothing does

-- Stops the call that runs, if with these `instructions` its budget is used up. `again` is the hook for that.
local function look(instructions, again)
  local now = core.current
  looked = cpu()
  if last_stretch ~= stretch or spender ~= now then
    last_stretch, spender, spent, since = stretch, now, instructions, looked
    return
  end
  spent = spent + instructions
  if spent <= budget and looked - since < options.patience then
    return
  end
  overspent = now
  sethook(again, "", 1)
  error("the script ran for too long without waiting; use_worker = true has room for that", 0)
end

-- Whether a call runs that has a budget, and not what calls it.
local function is_limited()
  local thread, is_main = running()
  return budget and core.current ~= nil and thread ~= nil and not is_main
end

local function spend()
  if core.current == nil then
    if left then
      left = left - STEP
      if left < 0 or cpu() > deadline then
        left = -1
        sethook(spend, "", 1)
        if getinfo(2, "S").source ~= "=[authlua]" then -- who tells of the error is not to be stopped
          error("the script ran for too long outside of any request", 0)
        end
      end
    end
  elseif is_limited() then
    look(STEP, spend)
  end
end

-- By itself Lua goes through its garbage when twice as much is in use as is of use; in a large state that is late.
local GROWTH = 4096 -- kB
local collect = collectgarbage
local pause = options.version == "5.5" and { "param", "pause" } or { "setpause" }

local function set_pause()
  pause[#pause + 1] = 100 + math.floor(math.min(100, 100 * GROWTH / collect("count")))
  collect(unpack(pause))
  pause[#pause] = nil
end

-- The hook after a collection, and while instructions take long.
local function watch()
  if is_limited() then
    local before = looked
    look(FEW, spend)
    set_pause()
    if looked - before > LONG then
      sethook(watch, "", FEW)
      return
    end
  end
  sethook(spend, "", STEP)
end

-- Only the garbage holds the sentinel: when it goes, Lua has been through all of it, and another is set.
local set_sentinel
local has_sentinel = true

local function on_collected()
  has_sentinel = false
  if is_limited() then
    sethook(watch, "", 1)
  end
  set_sentinel()
end

if newproxy then
  local pattern = newproxy(true)
  getmetatable(pattern).__gc = on_collected

  function set_sentinel()
    newproxy(pattern)
    has_sentinel = true
  end
else
  local meta = { __gc = on_collected }

  function set_sentinel()
    setmetatable({}, meta)
    has_sentinel = true
  end
end

if budget then
  set_sentinel()
end

-- A coroutine that keeps to the budget.
local function new_coroutine(fn)
  local thread = create(fn)
  if budget or left then
    sethook(thread, spend, "", STEP)
  end
  return thread
end
coroutine.create = new_coroutine
if budget and jit then
  jit.off() -- compiled code calls no hooks
end

-- Limits what runs from here on in the main coroutine; gives what `unlimited` wants to know.
local function limited()
  if left or options.loading == 0 then
    return left
  end
  left, deadline = options.loading, cpu() + options.loading_time
  if jit then
    jit.off()
  end
  sethook(spend, "", STEP)
  return nil
end

local function unlimited(before)
  left = before
  if before then
    return
  end
  sethook()
  if jit and budget then
    sethook(spend, "", STEP) -- LuaJIT has one hook for all coroutines
  elseif jit then
    jit.on()
  end
end

core.flatten = flatten

-- ## Lists of users
--
-- They leave in pieces, and other calls run between two of them.

local PIECE = options.piece
local listings = {}  -- call → what gives its users: `fn(state, control)`, as in a generic for

-- The next users: whether there may be more, then their names.
local function next_piece(list)
  local fn, state, user = list.fn, list.state, list.control
  local piece, count = {}, 0
  while count < PIECE do
    user = fn(state, user)
    local kind = type(user)
    if kind == "nil" then
      return DONE, false, unpack(piece, 1, count)
    elseif kind ~= "string" and kind ~= "number" then
      return REFUSED, "Value is not string"
    end
    count = count + 1
    piece[count] = tostring(user)
  end
  list.control = user
  return DONE, true, unpack(piece, 1, count)
end

-- What an iterate function returned: a table of names, whose keys do not matter, or an iterator as for a generic for.
-- A table is copied, as the script may change it before the last name is gone.
local function first_piece(users, state, control)
  local list = { fn = users, state = state, control = control }
  if type(users) == "table" then
    local names, count, taken = {}, 0, 0
    for _, user in next, users do
      local kind = type(user)
      if kind ~= "string" and kind ~= "number" then
        return REFUSED, "Value is not string"
      end
      count = count + 1
      names[count] = user
      if count % PIECE == 0 then
        stretch = stretch + 1 -- this takes its time, and is none of the script's
      end
    end
    function list.fn()
      taken = taken + 1
      return names[taken]
    end
  elseif type(users) ~= "function" then
    return REFUSED, "Cannot iterate, return value is not table"
  end
  listings[core.current] = list
  return next_piece(list)
end

local function new_slot()
  local open, shut = core.new_view()
  local function done(...)
    shut()
    return flatten(...)
  end
  local function body(fn, call, user, flags, password)
    while true do
      if not flags then
        if fn then
          fn, call, user, flags, password = yield(first_piece(fn()))
        else
          fn, call, user, flags, password = yield(next_piece(listings[call]))
        end
      elseif password then
        fn, call, user, flags, password = yield(done(fn(open(call, user, flags), password)))
      else
        fn, call, user, flags, password = yield(done(fn(open(call, user, flags))))
      end
    end
  end
  local slot = { coroutine = new_coroutine(body), shut = shut }
  slots[slot.coroutine] = true
  return slot
end

-- A message as Dovecot logs it: with a traceback, of which our own lines are left out; nil when it is no text.
local function explained(message, thread)
  local kind = type(message)
  if kind ~= "string" and kind ~= "number" and kind ~= "nil" then
    return nil
  end
  local lead = message == nil and "" or tostring(message)
  local text = (thread and traceback(thread, lead) or traceback(lead, 2)):gsub("\n\t%[authlua%][^\n]*", "")
  if message == nil then
    text = text:sub(2) -- the line break after no message
  end
  if not thread then
    return (text:gsub("\n\t%[C%]: in %a+ 'xpcall'$", ""):gsub("\n\t%([^\n]*tail call[^\n]*$", ""))
  end
  -- Dovecot's C calls the function without a name, we by that of a local.
  local bottom = 0
  while getinfo(thread, bottom + 1, "l") do
    bottom = bottom + 1
  end
  local info = getinfo(thread, bottom - 1, "S")
  return (text:gsub("in %a+ 'fn'$", function()
    return "in function <" .. info.short_src .. ":" .. info.linedefined .. ">"
  end))
end

-- ## Globals
--
-- In Dovecot calls run one after the other, so a script may keep what belongs to a login in a global, often for want
-- of a `local`. Here others run while a call waits; no login may see another's user or password. So what a call has
-- set when it waits is taken out of the globals, and put back when it goes on: others see it once the call is over.

local rawset, rawequal = rawset, rawequal
local NOTHING = {}        -- in the place of nil
local known, known_count = {}, 0  -- the globals as calls that are over have left them
local has_waited = false          -- until a call has, nobody keeps account
local overlays = {}       -- call → the globals that it has set and others must not see

-- What a call that is over has set is there for all. Done each time one is, no call finds what is not settled.
local function settle()
  local count = 0
  for name, value in next, globals do
    count = count + 1
    if not rawequal(known[name], value) then
      if known[name] == nil then
        known_count = known_count + 1
      end
      known[name] = value
    end
  end
  if count < known_count then
    for name in next, known do
      if rawget(globals, name) == nil then
        known[name] = nil
      end
    end
    known_count = count
  end
end

local function take_out(call)
  has_waited = true
  local overlay
  local count = 0
  for name, value in next, globals do
    local before = known[name]
    if not rawequal(before, value) then
      overlay = overlay or {}
      overlay[name] = value
    end
    if before ~= nil then
      count = count + 1
    end
  end
  if count < known_count then
    for name in next, known do
      if rawget(globals, name) == nil then
        overlay = overlay or {}
        overlay[name] = NOTHING
      end
    end
  end
  if overlay then
    overlays[call] = overlay
    for name in next, overlay do
      rawset(globals, name, known[name])
    end
  end
end

local function put_back(call)
  local overlay = overlays[call]
  if overlay then
    overlays[call] = nil
    for name, value in next, overlay do
      if value == NOTHING then
        value = nil
      end
      rawset(globals, name, value)
    end
  end
end

local function leave(call, abandoned)
  core.current = nil
  if leased[call] then
    leased[call] = nil
    host.left(call, abandoned == true)
  end
  if debugging[call] then
    debugging[call] = nil
  end
  if passthrough[call] then
    core.leak(call)
  end
  if has_waited then
    settle()
  end
end

-- What became of a slot after it was resumed.
local function step(slot, ok, first, ...)
  local call = slot.call
  if ok then
    if first == WISHING then
      core.current = nil
      waiting[call] = slot
      take_out(call)
      return WISH, call, ...
    end
    leave(call)
    if idle_count < 100 then
      idle_count = idle_count + 1
      idle[idle_count] = slot
    end
    return first, ...
  end
  slot.shut()
  leave(call)
  if overspent then
    overspent = nil
    if jit then
      sethook(spend, "", STEP) -- it has one hook for all coroutines
    end
  end
  if not has_sentinel then
    set_sentinel() -- there was no memory for it
  end
  if budget then
    collect("step") -- what the call held shall go soon
  end
  return RAISED, explained(first, slot.coroutine)
end

local function begin(fn, call, user, flags, password)
  local slot
  if idle_count > 0 then
    slot = idle[idle_count]
    idle_count = idle_count - 1
  else
    slot = new_slot()
  end
  slot.call = call
  core.current = call
  return step(slot, resume(slot.coroutine, fn, call, user, flags, password))
end

-- What a metatable of the globals has in the place of a function that is none of them. Whether there is one to verify
-- passwords, to list users or to call at the start, is for the globals alone to say; so it is in Dovecot, which dies of
-- an error in here.
local function inherited(name)
  local ok, fn = core.protected(function() return globals[name] end)
  return ok and type(fn) == "function" and fn or nil
end

-- Call the global function `name`. `flags` are the booleans of the request, nil for a list of users.
local function start(name, call, user, flags, password)
  local fn = rawget(globals, name)
  if type(fn) ~= "function" then
    fn = flags and inherited(name)
    if not fn then
      return MISSING, name
    end
  end
  return begin(fn, call, user, flags, password)
end

-- Go on with a list of users.
local function list_more(call)
  stretch = stretch + 1
  return begin(nil, call)
end

-- A wish of `call` is fulfilled; the results go back to where it was made.
local function continue(call, ...)
  local slot = waiting[call]
  waiting[call] = nil
  core.current = call
  stretch = stretch + 1
  put_back(call)
  return step(slot, resume(slot.coroutine, true, ...))
end

-- Nobody waits for `call` any more.
local function abandon(call)
  local slot = waiting[call]
  if not slot then
    return
  end
  waiting[call], overlays[call] = nil, nil
  slot.shut()
  leave(call, true)
  if close then
    close(slot.coroutine)
  end
end

-- ## Wishes
--
-- Where Lua can not leave the running function (inside a C function such as table.sort or string.gsub, and while the
-- script loads), a wish is declined and the API does the work on the spot.

local try_yield
if isyieldable then
  function try_yield(...)
    if isyieldable() then
      return yield(...)
    end
    return false
  end
elseif options.version == "5.2" then
  local function outcome(ok, ...)
    if ok then
      return ...
    end
    return false
  end
  function try_yield(...)
    return outcome(pcall(yield, ...))
  end
else
  -- 5.1 can not be asked, so the frames are: none may be C's, nor one that Lua itself called, as it does an iterator
  -- or a metamethod. Such a one has no name; what was called by a name that only an expression gives looks the same.
  local function can_leave()
    local level, below = 3, getinfo(3, "Sn")
    while below do
      local info = below
      level = level + 1
      below = getinfo(level, "Sn")
      if info.what == "C" or info.name == "(for generator)" then
        return false
      elseif below and below.what ~= "tail" and info.what ~= "tail" and info.namewhat == "" then
        return false
      end
    end
    return true
  end

  function try_yield(...)
    if running() and can_leave() then
      return yield(...)
    end
    return false
  end
end

-- Wish for `kind` with plain values; true and the results, or false when there is no way to wait here.
function core.wish(kind, ...)
  return try_yield(WISHING, kind, ...)
end

-- ## The script's own coroutines
--
-- Its calls run in coroutines although Dovecot's do not, so the library is put right: at the top of a call a script
-- sees the main coroutine and can not yield. A wish made further inside passes through every resume on its way out.

local main, is_main = running()
local _, OUTSIDE = pcall(yield)

local function relay(thread, ok, first, ...)
  if ok and first == WISHING then
    return relay(thread, resume(thread, try_yield(first, ...)))
  elseif overspent and overspent == core.current or left and left < 0 then
    sethook(spend, "", 1) -- here as well
  end
  return ok, first, ...
end

function coroutine.resume(thread, ...)
  return relay(thread, resume(thread, ...))
end

-- Who runs out of memory ends, as Dovecot's process does, and can not catch that to fill the memory again.
local find = string.find

local function is_full(message)
  return options.limited and type(message) == "string" and find(message, "not enough memory", 1, true) ~= nil
end

-- 5.1's pcall is a C function that nobody can leave, so here it is a coroutine.
if options.version == "5.1" then
  local native_pcall, native_xpcall = pcall, xpcall

  local function attempted(handler, thread, ok, first, ...)
    if status_of(thread) == "suspended" then
      return attempted(handler, thread, relay(thread, resume(thread, yield(first, ...))))
    elseif ok or not handler then
      return ok, first, ...
    end
    return false, handler(first)
  end

  local function attempt(handler, fn, ...)
    local is_c = type(fn) == "function" and getinfo(fn, "S").what == "C"
    local thread = new_coroutine(is_c and function(...) return fn(...) end or fn)
    slots[thread] = slots[running()]
    return attempted(handler, thread, relay(thread, resume(thread, ...)))
  end

  function globals.pcall(fn, ...)
    if type(fn) == "function" and running() then
      return attempt(nil, fn, ...)
    end
    return native_pcall(fn, ...)
  end

  function globals.xpcall(fn, handler)
    if type(fn) == "function" and running() then
      return attempt(handler, fn)
    end
    return native_xpcall(fn, handler)
  end
end

if options.limited then
  local attempt, attempt_with, continue_with = globals.pcall, globals.xpcall, coroutine.resume

  local function unless_full(ok, message, ...)
    if not ok and is_full(message) then
      error(message, 0)
    end
    return ok, message, ...
  end

  function globals.pcall(...)
    return unless_full(attempt(...))
  end

  function globals.xpcall(fn, handler, ...)
    local tell = handler
    if type(handler) == "function" then
      function tell(message)
        return is_full(message) and message or handler(message)
      end
    end
    return unless_full(attempt_with(fn, tell, ...))
  end

  function coroutine.resume(...)
    return unless_full(continue_with(...))
  end
end

local function unwrapped(thread, ok, first, ...)
  if ok then
    return first, ...
  end
  if close and status_of(thread) == "dead" then
    close(thread)
  end
  error(first, type(first) == "string" and not is_full(first) and 2 or 0)
end

function coroutine.wrap(fn)
  local thread = new_coroutine(fn)
  return function(...)
    return unwrapped(thread, relay(thread, resume(thread, ...)))
  end
end

function coroutine.yield(...)
  if slots[running() or ""] then
    error(OUTSIDE, 0)
  end
  return yield(...)
end

function coroutine.running()
  local thread, first = running()
  if slots[thread or ""] then
    return main, is_main
  end
  return thread, first
end

function coroutine.status(thread)
  if thread == main and main ~= nil and slots[running() or ""] then
    return "running"
  end
  return status_of(thread)
end

if isyieldable then
  function coroutine.isyieldable(thread)
    if slots[running() or ""] and (thread == nil or thread == main) then
      return false
    elseif thread == nil then
      return isyieldable()
    end
    return isyieldable(thread)
  end
end

-- ## Arguments, checked as Dovecot's C functions check them

-- How many arguments a function got; the receiver of a method counts.
function core.expect(got, low, high)
  if got < low or got > (high or low) then
    local wanted = high and high > low and low .. " to " .. high or low
    error("expected " .. wanted .. " arguments, got " .. got, 0)
  end
end

local function bad_argument(position, name, problem)
  error("bad argument #" .. position .. " to '" .. name .. "' (" .. problem .. ")", 4)
end

core.bad_argument = bad_argument

-- What stands there instead; `count` is how many arguments there are, if it is known.
local function got(value, position, count)
  return count and position > count and "no value" or type(value)
end

-- A string; a number counts as one.
function core.string(value, position, name, count)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" then
    return tostring(value)
  end
  bad_argument(position, name, "string expected, got " .. got(value, position, count))
end

-- A number; a text that reads as one counts.
function core.number(value, position, name, count)
  local number = type(value) == "number" and value or type(value) == "string" and tonumber(value)
  if not number then
    bad_argument(position, name, "number expected, got " .. got(value, position, count))
  end
  return number
end

-- An integer; a text that reads as one counts. Lua before 5.3 has none and cuts the fraction off.
function core.integer(value, position, name)
  local number = type(value) == "number" and value or type(value) == "string" and tonumber(value)
  if not number then
    bad_argument(position, name, "number expected, got " .. type(value))
  end
  local whole = number >= 0 and math.floor(number) or math.ceil(number)
  if not integer_kind then
    return whole
  elseif whole ~= number or integer_kind(whole) ~= "integer" then
    bad_argument(position, name, "number has no integer representation")
  end
  return whole
end

-- Hand on what a callback returned; raise what it refuses, without a position, as Dovecot's errors have none.
function core.checked(value, refusal)
  if refusal ~= nil then
    error(refusal, 0)
  end
  return value
end

-- ## The rest of the standard library that touches the process

function print(...)
  local words = {}
  for i = 1, select("#", ...) do
    words[i] = tostring((select(i, ...)))
  end
  host.log("info", core.current, concat(words, "\t"))
end

function os.exit()
  error("os.exit() would end the whole server, so a script can not call it", 2)
end

-- How a program ended, as Lua says it on POSIX systems; this Lua was not told that it runs on one, and gives the raw
-- status. Before 5.2 that is what all give.
local function ending(ok, kind, status)
  if kind == nil then
    return ok -- whether there is a shell
  elseif kind ~= "exit" or type(status) ~= "number" or status == 0 then
    return ok, kind, status
  elseif status % 128 ~= 0 then
    return ok, "signal", status % 128
  end
  return ok, kind, math.floor(status / 256)
end

do
  local execute = os.execute
  function os.execute(...)
    return ending(execute(...))
  end
end

-- C modules call the Lua whose symbols are global, which is the first this process opened; in another they crash.
if options.c_modules_of ~= options.version then
  local problem = "C modules are those of Lua " .. options.c_modules_of .. " in this process"
  local searchers = package.searchers or package.loaders
  searchers[3] = function() return "\n\t" .. problem end
  searchers[4] = nil
  function package.loadlib() return nil, problem, "absent" end
else
  -- A module of another Lua lacks some function of its own; whoever reads that need not know which Lua has which.
  local searchers, find = package.searchers or package.loaders, string.find
  local function told(ok, found, ...)
    if not ok and type(found) == "string" and find(found, "undefined symbol: lua", 1, true) then
      found = found .. "\n\tthis module is not for Lua " .. options.version .. ": see lua.version and lua.cpath"
    end
    if not ok then
      error(found, 0)
    end
    return found, ...
  end
  for i = 3, 4 do
    local searcher = searchers[i]
    searchers[i] = function(...)
      return told(pcall(searcher, ...))
    end
  end
end

-- ## Loading

local chunk

local function settled(before, ...)
  unlimited(before)
  if passthrough[0] then
    core.leak(0)
  end
  return ...
end

local function protected(fn, ...)
  local arguments, count = { ... }, select("#", ...)
  return settled(limited(), xpcall(function() return fn(unpack(arguments, 1, count)) end, explained))
end

core.protected = protected

local function done(ok, ...)
  return ok and DONE or RAISED, ...
end

-- The kind of a value, with integers told from other numbers.
local function kind_of(value)
  local kind = type(value)
  if kind == "number" then
    kind = integer_kind and integer_kind(value) or value == math.floor(value) and "integer" or "float"
  end
  return kind
end

-- Where Python cannot give a state its arguments without danger while memory is limited, it lifts the limit, and what
-- it calls puts it back first.
local function entry(fn)
  if not options.lifted then
    return fn
  end
  local lower = host.lower
  return function(...)
    lower()
    return fn(...)
  end
end

return {
  start = entry(start),
  continue = entry(continue),
  abandon = abandon,

  -- Compile the script; the error text, or nil. `name` is Lua's name for it, with an @ in front when it is a file; of
  -- those a byte order mark and a first line that begins with # are skipped, as by loadfile.
  compile = function(source, name)
    local message
    if name:byte() == 64 then
      source = source:gsub("^\239\187\191", ""):gsub("^#[^\n]*", "")
    end
    chunk, message = (loadstring or load)(source, name)
    return message
  end,

  -- Let the script see `dovecot`.
  register = function()
    dovecot = setmetatable(core.dovecot, core.members)
  end,

  -- Run the chunk that was compiled.
  run = entry(function()
    collectgarbage("restart")
    local ok, message = protected(chunk)
    chunk = nil
    settle()
    if ok then
      return DONE, nil
    end
    return RAISED, message
  end),

  -- Call a global function while no request is served; all its results.
  pcall = entry(function(name, ...)
    local fn = rawget(globals, name)
    if type(fn) ~= "function" then
      fn = inherited(name)
      if not fn then
        return MISSING, name
      end
    end
    return done(protected(fn, ...))
  end),

  -- The same for those that want the kind of its first result, and its value if that is plain.
  call = entry(function(name, ...)
    local fn = rawget(globals, name)
    if type(fn) ~= "function" then
      return MISSING, name
    end
    local ok, value = protected(fn, ...)
    settle()
    if not ok then
      return RAISED, value
    end
    local kind = kind_of(value)
    local plain = kind == "string" or kind == "integer" or kind == "float" or kind == "boolean"
    return DONE, kind, plain and value or nil
  end),

  defines = function(name)
    return type(rawget(globals, name)) == "function"
  end,

  collect = collectgarbage,
  list_more = entry(list_more),

  -- Nobody wants the rest of a list.
  end_listing = function(call)
    abandon(call)
    listings[call] = nil
  end,

  -- Lets a file of api/ build its part, with `more` functions of Python; what it returns is for Python.
  add = function(source, name, more)
    local part, message = (loadstring or load)(source, name)
    if not part then
      error(message, 0)
    end
    return part(core, more)
  end,
}
