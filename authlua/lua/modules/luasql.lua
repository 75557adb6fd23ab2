-- LuaSQL's "luasql.mysql", "luasql.postgres" and "luasql.sqlite3": environments, connections, cursors.

local core, module = ...
local host, check, waited, holder = core.host, core.check, core.waited, core.holder
local type, error, select, tostring, unpack = type, error, select, tostring, table.unpack or unpack
local setmetatable, tonumber = setmetatable, tonumber

local name = module:match("^luasql%.(.*)")
local SAYS = {
  mysql = { title = "MySQL", connect = "error connecting to database. MySQL: ", execute = "error executing query. MySQL: ", closed = "" },
  postgres = { title = "PostgreSQL", connect = "error connecting to database. PostgreSQL: ",
    execute = "error executing statement. PostgreSQL: ", closed = "LuaSQL: " },
  sqlite3 = { title = "SQLite3", connect = "", execute = "", closed = "LuaSQL: " },
}
local says = SAYS[name]
local OPTIONS = { mysql = "sssnsn", postgres = "ssss" }  -- of connect, see check.optional

-- What Lua calls an integer here and a float there: the number of rows that a statement has changed.
local function count_of(number)
  return name == "mysql" and number or number + 0.0
end

-- Whether an object was closed; those that were not are in none of these.
local closed = setmetatable({}, { __mode = "k" })

local function shown(what)
  return function(object)
    return says.title .. " " .. what .. " (" .. (closed[object] and "closed" or host.identity(object)) .. ")"
  end
end

local function open(object, methods, what, position)
  if core.kinds[object] ~= methods then
    error("bad argument #1 to '" .. position .. "' (" .. says.title .. " " .. what .. " expected)", 3)
  elseif closed[object] then
    error("calling '" .. position .. "' on bad self (" .. says.closed .. what .. " is closed)", 3)
  end
  return object
end

local function close(object)
  if closed[object] then
    return false
  end
  closed[object] = true
  return true
end

-- ## Cursors

local cursor = { __shown = shown("cursor") }

local function row_of(self, into, mode, there, ...)
  if not there then
    closed[self] = true
    return nil
  elseif not into then
    return ...
  end
  local by_name, by_number = mode:find("a", 1, true), mode:find("n", 1, true)
  local names = by_name and { host.sql_names(self) }
  for i = 1, select("#", ...) do
    local value = (select(i, ...))
    if by_number then
      into[i] = value
    end
    if by_name then
      into[names[i]] = value
    end
  end
  return into
end

function cursor.fetch(self, into, mode)
  open(self, cursor, "cursor", "fetch")
  if type(into) ~= "table" then
    into = nil
  end
  return row_of(self, into, type(mode) == "string" and mode or "n", host.sql_fetch(self))
end

function cursor.getcolnames(self)
  return { host.sql_names(open(self, cursor, "cursor", "getcolnames")) }
end

function cursor.getcoltypes(self)
  return { host.sql_types(open(self, cursor, "cursor", "getcoltypes")) }
end

if name ~= "sqlite3" then
  function cursor.numrows(self)
    return count_of(host.sql_count(open(self, cursor, "cursor", "numrows")))
  end
end

if name == "mysql" then
  function cursor.hasnextresult() return false end
  function cursor.nextresult() return false, "LuaSQL: no more results" end
end

cursor.close = close
cursor.__close = close

-- ## Connections

local connection = { __shown = shown("connection") }

local function outcome(result, problem)
  if result == nil then
    return nil, "LuaSQL: " .. says.execute .. problem
  elseif type(result) == "number" then
    return count_of(result)
  end
  return core.object(result, cursor)
end

function connection.execute(...)
  local self, statement = ...
  open(self, connection, "connection", "execute")
  statement = check.string(statement, 1, "execute", select("#", ...) - 1)
  return outcome(waited(host.sql_execute(holder(), self, statement)))
end

local function done(ok)
  return ok ~= nil
end

function connection.commit(self)
  return done(waited(host.sql_commit(holder(), open(self, connection, "connection", "commit"))))
end

function connection.rollback(self)
  return done(waited(host.sql_rollback(holder(), open(self, connection, "connection", "rollback"))))
end

function connection.setautocommit(self, on)
  open(self, connection, "connection", "setautocommit")
  return done(waited(host.sql_autocommit(holder(), self, on and true or false)))
end

function connection.escape(self, text)
  return host.sql_quote(name, check.string(text, 1, "escape"))
end

if name ~= "postgres" then
  function connection.getlastautoid(self)
    local id = waited(host.sql_last_id(holder(), open(self, connection, "connection", "getlastautoid")))
    return count_of(id)
  end
end

if name == "mysql" then
  function connection.ping(self)
    return (waited(host.sql_ping(holder(), open(self, connection, "connection", "ping"))))
  end
end

function connection.close(self)
  if close(self) then
    host.sql_close(self)
    return true
  end
  return false
end
connection.__close = connection.close

-- ## Environments

local environment = { __shown = shown("environment") }

function environment.connect(...)
  local self, source = ...
  open(self, environment, "environment", "connect")
  source = check.string(source, 1, "connect", select("#", ...) - 1)
  local made, problem
  if name == "sqlite3" then
    made, problem = waited(host.sql_connect(core.current, name, true, source, tonumber((select(3, ...)))))
  else
    made, problem = waited(host.sql_connect(
      core.current, name, true, source, check.optional(OPTIONS[name], 2, "connect", select(3, ...))
    ))
  end
  if not made then
    return nil, "LuaSQL: " .. says.connect .. problem
  end
  return core.object(made, connection)
end

environment.close = close
environment.__close = close

return {
  _VERSION = "LuaSQL 2.6.0 (for " .. _VERSION .. ")",
  _COPYRIGHT = "authlua's twin of LuaSQL",
  _DESCRIPTION = "LuaSQL is a simple interface from Lua to a DBMS",
  [name] = function()
    return core.object(host.null(), environment)
  end,
}
