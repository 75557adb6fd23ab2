-- LuaDBI. GOOD, BAD1 and BAD2 are what Connect gets.
local DBI = require("DBI")

local function show(label, ...)
  local words = {}
  for i = 1, select("#", ...) do
    local word = (select(i, ...))
    words[i] = type(word) == "string" and '"' .. word:gsub("[%c]", "|") .. '"' or tostring(word):gsub("0x%x+", "")
  end
  print(label .. "\t" .. table.concat(words, "\t"))
end

local drivers = DBI.Drivers()
table.sort(drivers)
show("drivers", table.concat(drivers, " "))
show("no driver", (pcall(DBI.Connect, "Nosuch", "x")))
local function fails(...)
  local ok, problem = pcall(DBI.Connect, ...)
  show("fails", ok, (tostring(problem):gsub("^.*: ", "")))
end
for _, driver in ipairs{ "MySQL", "PostgreSQL", "SQLite3" } do
  fails(driver, {})
  fails(driver, "x", {})
end
fails("SQLite3")
fails("MySQL", "x", "u", "p", "h", {})
show("refused", DBI.Connect(BAD1))
show("refused", DBI.Connect(BAD2))
local dbh, problem = DBI.Connect(GOOD)
show("connection", type(dbh), dbh, problem)
dbh:autocommit(true)
show("ping", dbh:ping())
show("do", DBI.Do(dbh, "create table u (id integer primary key, name varchar(10), x double precision)"))
show("do", DBI.Do(dbh, "insert into u values (?, ?, ?)", 1, "it's ?", 1.5))
show("do", DBI.Do(dbh, "insert into u values (?, ?, ?)", 2, "", -0.5))
show("do", DBI.Do(dbh, "syntax"))
show("prepare", dbh:prepare("select nosuch from u"))
local sth = assert(dbh:prepare("select id, name, x from u where id >= ? and name <> '?' order by id"))
show("statement", type(sth), sth)
show("execute", sth:execute(0))
show("columns", table.concat(sth:columns(), " "))
local row = sth:fetch(true)
show("row", row.id, row.name, row.x)
row = sth:fetch()
show("row", row[1], row[2], row[3], #row)
show("end", sth:fetch())
show("execute", sth:execute(1))
for one in sth:rows(true) do show("rows", one.id, one.name) end
show("execute", sth:execute(2))
for one in sth:rows() do show("rows", one[1], one[2]) end
local insert = assert(dbh:prepare("insert into u (id, name) values (?, ?)"))
show("insert", insert:execute(9, "nine"))
show("affected", insert:affected())
show("quote", dbh:quote("it's"))
sth:close()
show("closed", (sth:execute(1)))
show("closed", (pcall(sth.fetch, sth)))
show("close", dbh:close(), dbh:close())
show("closed", dbh:prepare("select 1"))
show("closed", dbh:ping())
