-- What a Lua prompt and tests of auth scripts have besides what scripts have: requests out of nothing, the script that
-- is under test, its functions called as the server calls them, and two assertions.

local core, host = ...
local checked, protected, flatten, is_2_4 = core.checked, core.protected, core.flatten, core.options.is_2_4
local error, type, select, rawget, next, tostring, pairs = error, type, select, rawget, next, tostring, pairs
local getmetatable, pcall = getmetatable, pcall
local concat, sort, format, find = table.concat, table.sort, string.format, string.find
local load, getinfo, globals = loadstring or load, debug.getinfo, _G

-- ## Values, for people to read

local shown

local function key_shown(key)
  return type(key) == "string" and find(key, "^[%a_][%w_]*$") and key or "[" .. shown(key, 1) .. "]"
end

function shown(value, depth)
  if type(value) == "string" then
    return depth == 0 and value or (format("%q", value):gsub("\\\n", "\\n"))
  elseif type(value) ~= "table" or depth > 3 then
    return tostring(value)
  end
  local parts, length = {}, #value
  for i = 1, length do
    parts[i] = shown(value[i], depth + 1)
  end
  local named = {}
  for key, inner in next, value do
    if not (type(key) == "number" and key >= 1 and key <= length and key % 1 == 0) then
      named[#named + 1] = key_shown(key) .. " = " .. shown(inner, depth + 1)
    end
  end
  sort(named)
  for _, part in next, named do
    parts[#parts + 1] = part
  end
  return #parts > 0 and "{ " .. concat(parts, ", ") .. " }" or "{}"
end

-- ## Requests

-- A request object, alive as long as the state; `values` are its members, with the tables passdb and userdb.
function globals.request(values)
  if type(values) ~= "table" then
    error("request: expected a table such as { user = \"alice\" }, got " .. type(values), 2)
  end
  local call, user, flags = host.request(values)
  if call == nil then
    error(user, 2)
  end
  local open = core.new_view()
  return open(call, user, flags)
end

local function request_of(given)
  local meta = type(given) == "table" and getmetatable(given)
  if type(meta) == "table" and rawget(meta, "call_of") then
    return given
  end
  return globals.request(given)
end

-- ## The script's functions, called and judged as in the server

local function result(said, name, ...)
  if name == nil then
    error((...), 0)
  end
  local fields = {}
  for i = 1, select("#", ...), 2 do
    local key, value = select(i, ...)
    fields[key] = value
  end
  if type(said) == "string" and name ~= "OK" and name ~= "NEXT" then
    return name, fields, said
  end
  return name, fields
end

local function asker(kind, name)
  return function(given, ...)
    local fn, request = rawget(globals, name), request_of(given)
    if type(fn) ~= "function" then
      error("'" .. name .. "' is not a function", 2)
    end
    local code, second = fn(request, ...)
    return result(second, host.judged(kind, request.item, flatten(code, second)))
  end
end

-- Each gives the result's name, such as "OK" or "USER_UNKNOWN", the fields, and the text beside a failure.
globals.passdb_lookup = asker("passdb_lookup", "auth_passdb_lookup")
globals.password_verify = asker("password_verify", "auth_password_verify")
globals.userdb_lookup = asker("userdb_lookup", "auth_userdb_lookup")

-- All users, in a table.
function globals.userdb_iterate()
  local users, state, user = globals.auth_userdb_iterate()
  local names = {}
  if type(users) == "table" then
    for _, name in next, users do
      names[#names + 1] = name
    end
    return names
  end
  for name in users, state, user do
    names[#names + 1] = name
  end
  return names
end

-- ## Assertions

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in next, a do
    if not same(value, rawget(b, key)) then
      return false
    end
  end
  for key in next, b do
    if rawget(a, key) == nil then
      return false
    end
  end
  return true
end

-- Are the two the same, tables by what is in them?
function globals.equal(expected, got)
  if not same(expected, got) then
    error("expected " .. shown(expected, 1) .. ", got " .. shown(got, 1), 2)
  end
end

-- Does `fn` raise an error, and one in which `pattern` is found? Gives its text.
function globals.fails(fn, pattern)
  local ok, message = pcall(fn)
  if ok then
    error("expected an error, and there was none", 2)
  elseif pattern and not find(tostring(message), pattern) then
    error("expected an error with " .. shown(pattern, 1) .. ", got " .. shown(message, 1), 2)
  end
  return message
end

-- ## Loading

local function run(path)
  local source = checked(host.read(path))
  local chunk, message = load(source, "@" .. checked(host.place(path)))
  if not chunk then
    error(message, 0)
  end
  return chunk
end

-- Load an auth script: its main chunk, then its script_init. A path is relative to the file of the tests.
function globals.script(path, settings)
  run(path)()
  local init = rawget(globals, "script_init")
  if type(init) == "function" then
    if is_2_4 then
      init(settings or {})
    else
      local code = init()
      if code ~= 0 then
        error("script_init() returned " .. tostring(code) .. ", expected 0", 0)
      end
    end
  end
end

local function texts(ok, ...)
  if not ok then
    return false, (...)
  end
  local list = {}
  for i = 1, select("#", ...) do
    list[i] = shown((select(i, ...)), 0)
  end
  return true, concat(list, "\t")
end

return {
  -- Run a line that was typed: true and its results, false and an error, or nil when it has no end yet.
  evaluate = function(line)
    local chunk = load("return " .. line, "=stdin")
    local message
    if not chunk then
      chunk, message = load(line, "=stdin")
    end
    if chunk then
      return texts(protected(chunk))
    elseif find(message, "<eof>'?$") then
      return nil
    end
    return false, message
  end,

  -- Load the script or the file of tests at `path`; an error, or nil.
  script = function(path)
    local ok, message = protected(globals.script, path)
    return not ok and (message or "(null)") or nil
  end,
  tests_of = function(path)
    local ok, message = protected(function() run(path)() end)
    if not ok then
      return false, message
    end
    local names = {}
    for name, fn in pairs(globals) do
      if type(name) == "string" and type(fn) == "function" and find(name, "^test_") then
        names[#names + 1] = name
      end
    end
    sort(names, function(a, b)
      local one, other = getinfo(globals[a], "S").linedefined, getinfo(globals[b], "S").linedefined
      return one < other or one == other and a < b
    end)
    return true, concat(names, "\n")
  end,
}
