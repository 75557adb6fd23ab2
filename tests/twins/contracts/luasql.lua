-- LuaSQL. DRIVER is mysql, postgres or sqlite3; GOOD and the others are what connect gets.
local luasql = require("luasql.DRIVER")

local function quoted(text)
  return '"' .. text:gsub("[%c\127-\255]", function(c) return "\\" .. c:byte() end) .. '"'
end

local function show(label, ...)
  local words = {}
  for i = 1, select("#", ...) do
    local word = (select(i, ...))
    words[i] = type(word) == "string" and quoted(word) or tostring(word):gsub("0x%x+", "")
  end
  print(label .. "\t" .. table.concat(words, "\t"))
end

local function row(label, values)
  local words = {}
  for name, value in pairs(values) do
    words[#words + 1] = tostring(name) .. "=" .. tostring(value)
  end
  table.sort(words)
  show(label, table.concat(words, " "))
end

local function fails(label, method)
  local ok, problem = pcall(method)
  show(label, ok, (problem:gsub("^.*/auth%.lua:", "")))
end

local env = luasql.DRIVER()
show("environment", type(env), env)
show("refused", env:connect(BAD1))
show("refused", env:connect(BAD2))
fails("connect", function() env:connect() end)
fails("connect", function() assert(env:connect("/", {})) end)
local con = assert(env:connect(GOOD))
show("connection", type(con), con)
show("create", con:execute("create table t (id integer primary key, name varchar(10), x double precision)"))
show("insert", con:execute("insert into t values (1, 'a', 1.5)"))
show("insert", con:execute("insert into t (id, name) values (2, 'b'), (3, null)"))
show("update", con:execute("update t set x = 2 where id > 1"))
show("update", con:execute("update t set x = 2 where id > 99"))
show("error", con:execute("select nosuch from t"))
show("error", con:execute("syntax"))
show("error", con:execute("insert into t values (1, 'a', 1.5)"))
fails("execute", function() con:execute() end)
local cur = con:execute("select id, name, x from t order by id")
show("cursor", type(cur), cur)
show("columns", table.concat(cur:getcolnames(), " "))
show("fetch", cur:fetch())
row("named", cur:fetch({}, "a"))
row("numbered", cur:fetch({}))
show("end", cur:fetch())
fails("after the end", function() cur:fetch() end)
show("close", cur:close(), cur)
cur = con:execute("select id, name from t order by id")
row("both", cur:fetch({}, "an"))
local kept = { old = "stays" }
row("into", cur:fetch(kept, "a"))
show("close", cur:close())
show("close", cur:close())
fails("closed", function() cur:fetch() end)
fails("closed", function() cur:getcolnames() end)
cur = con:execute("select id from t where 1 = 0")
show("nothing", cur:fetch())
show("nothing", cur:close())
show("escape", con:escape("it's"))
show("manual", con:setautocommit(false))
show("insert", con:execute("insert into t (id, name) values (9, 'z')"))
show("rollback", con:rollback())
cur = con:execute("select count(*) from t")
show("count", cur:fetch())
cur:close()
show("insert", con:execute("insert into t (id, name) values (10, 'z')"))
show("commit", con:commit())
show("automatic", con:setautocommit(true))
show("close", con:close(), con:close())
fails("closed", function() con:execute("select 1") end)
show("close", env:close(), env:close())
fails("closed", function() env:connect("x") end)
