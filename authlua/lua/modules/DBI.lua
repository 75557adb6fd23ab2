-- LuaDBI's "DBI": connections and prepared statements over MySQL, PostgreSQL and SQLite3.

local core = ...
local host, check, waited, holder = core.host, core.check, core.waited, core.holder
local type, error, select, tostring, pairs, setmetatable = type, error, select, tostring, pairs, setmetatable
local unpack = table.unpack or unpack

local DRIVERS = { MySQL = "mysql", PostgreSQL = "postgres", SQLite3 = "sqlite3" }
local OPTIONS = { MySQL = "ssssn", PostgreSQL = "ssssn", SQLite3 = "sn" }  -- what they take, see check.optional
local states = setmetatable({}, { __mode = "k" })  -- connection or statement → what is known of it

local function shown(what)
  return function(object)
    return "DBD." .. states[object].driver .. "." .. what .. ": " .. host.identity(object)
  end
end

-- ## Statements

local statement = { __shown = shown("Statement") }

local function columns_of(state)
  return state.cursor and { host.sql_names(state.cursor) } or {}
end

function statement.execute(self, ...)
  local state = states[self]
  if state.closed then
    return false, "Execute called on a closed or invalid statement"
  end
  for i = 1, select("#", ...) do
    local kind = type((select(i, ...)))
    if kind == "table" or kind == "function" or kind == "userdata" or kind == "thread" then
      return false, "Error binding statement parameters: Unknown or unsupported type `" .. kind .. "'"
    end
  end
  state.cursor, state.affected = nil, nil
  local result, problem = waited(host.sql_run(holder(), state.connection, state.text, ...))
  if result == nil then
    if problem:find("^Statement expected") then
      return false, problem
    end
    return false, (state.driver == "SQLite3" and "Execute failed " or "Error executing statement parameters: ") .. problem
  elseif type(result) == "number" then
    state.affected = result
  else
    state.cursor = result
  end
  return true
end

local function row_of(state, is_named, there, ...)
  if not there then
    return nil
  end
  local row, names = {}, is_named and columns_of(state)
  for i = 1, select("#", ...) do
    row[is_named and names[i] or i] = (select(i, ...))
  end
  return row
end

function statement.fetch(self, is_named)
  local state = states[self]
  if state.closed then
    error("Fetch called on a closed or invalid statement", 2)
  elseif not state.cursor then
    return nil
  end
  return row_of(state, is_named, host.sql_fetch(state.cursor))
end

function statement.rows(self, is_named)
  return function()
    return self:fetch(is_named)
  end
end

function statement.columns(self)
  return columns_of(states[self])
end

function statement.affected(self)
  return states[self].affected or states[self].cursor and host.sql_count(states[self].cursor) or 0
end

function statement.rowcount(self)
  local state = states[self]
  if state.driver == "SQLite3" then
    error("Method DBD.SQLite3.Statement.rowcount is not implemented", 2)
  end
  return state.cursor and host.sql_count(state.cursor) or 0
end

function statement.close(self)
  local was_open = not states[self].closed
  states[self].closed, states[self].cursor = true, nil
  return was_open
end
statement.__close = statement.close

-- ## Connections

local connection = { __shown = shown("Connection") }

function connection.prepare(self, text)
  local state = states[self]
  if state.closed then
    return nil, "Database not available"
  end
  text = check.string(text, 1, "prepare")
  local ok, problem = waited(host.sql_check(holder(), self, text))
  if ok == nil then
    return nil, "Error preparing statement handle: " .. problem
  end
  local made = core.object(host.null(), statement)
  states[made] = { driver = state.driver, connection = self, text = text }
  return made
end

function connection.autocommit(self, on)
  return waited(host.sql_autocommit(holder(), self, on and true or false)) ~= nil
end

function connection.commit(self)
  return waited(host.sql_commit(holder(), self)) ~= nil
end

function connection.rollback(self)
  return waited(host.sql_rollback(holder(), self)) ~= nil
end

function connection.ping(self)
  return not states[self].closed and (waited(host.sql_ping(holder(), self))) or false
end

function connection.quote(self, text)
  return host.sql_quote(DRIVERS[states[self].driver], check.string(text, 1, "quote"))
end

function connection.last_id(self)
  if states[self].driver == "PostgreSQL" then
    error("Method DBD.PostgreSQL.Connection.last_id is not implemented", 2)
  end
  return (waited(host.sql_last_id(holder(), self)))
end

function connection.close(self)
  if states[self].closed then
    return false
  end
  states[self].closed = true
  host.sql_close(self)
  return true
end
connection.__close = connection.close

-- ## The module

local DBI = { _VERSION = "0.7" }

function DBI.Drivers()
  local names = {}
  for name in pairs(DRIVERS) do
    names[#names + 1] = name
  end
  return names
end

function DBI.Connect(driver, ...)
  if not DRIVERS[driver] then
    error("Driver '" .. tostring(driver) .. "' not found. Available drivers are: " .. table.concat(DBI.Drivers(), ","), 2)
  end
  local is_file = driver == "SQLite3"
  if is_file then
    check.string((...), 1, "New", select("#", ...))
  end
  local database, user, password, address, port = check.optional(OPTIONS[driver], 1, "New", ...)
  if is_file then
    user = nil -- how to open it; we know one way
  end
  local made, problem = waited(host.sql_connect(
    core.current, DRIVERS[driver], is_file, database, user, password, address, port
  ))
  if not made then
    return nil, "Failed to connect to database: " .. problem
  end
  states[made] = { driver = driver }
  core.object(made, connection)
  return made
end

function DBI.Do(dbh, text, ...)
  local made, problem = dbh:prepare(text)
  if not made then
    return false, problem
  end
  local ok
  ok, problem = made:execute(...)
  if not ok then
    return false, problem
  end
  return made:affected()
end

return DBI
