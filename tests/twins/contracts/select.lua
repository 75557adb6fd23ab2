-- LuaSocket's select. PORT is a server that does what it is told.
local socket = require("socket")
local unpack = table.unpack or unpack

local names = {}

local function show(label, ...)
  local words = {}
  for i = 1, select("#", ...) do
    local word = (select(i, ...))
    words[i] = names[word] or type(word) == "string" and ("%q"):format(word) or tostring(word)
  end
  print(label .. "\t" .. table.concat(words, "\t"))
end

local function set(sockets)
  local words = {}
  for i, sock in ipairs(sockets) do
    words[i] = names[sock] .. "=" .. tostring(sockets[sock])
  end
  return #words == 0 and "-" or table.concat(words, " ")
end

local function selected(label, ...)
  local reading, writing, problem = socket.select(...)
  show(label, set(reading), set(writing), problem)
end

local function fails(label, ...)
  local ok, message = pcall(socket.select, ...)
  show(label, ok, (tostring(message):gsub("^.*/auth%.lua:", ""):gsub("'[^']*'", "'it'", 1)))
end

local function connected(name)
  local sock = assert(socket.connect("127.0.0.1", PORT))
  names[sock] = name
  return sock
end

fails("no table", 5, {}, 0)
fails("no table", {}, "x", 0)
fails("no number", {}, {}, "x")
fails("no number", nil, nil, {})
selected("nothing", {}, {}, 0)
selected("nothing", nil, nil, 0.01)
selected("nothing", {}, nil, "0.01")
local same, other = socket.select({}, {}, 0)
show("tables", same ~= other)

local a, b = connected("a"), connected("b")
selected("to write", { a, b }, { b, a }, 5)
selected("to write", nil, { a })
selected("to read", { a, b }, nil, 0.01)
a:send("say one\\ntwo\\n\n")
selected("a has come", { b, a }, nil, 5)
selected("both ways", { b, a }, { a, b }, 5)
show("line", a:receive())
show("dirty", a:dirty())
selected("what was read ahead", { b, a }, nil, 5)
selected("what was read ahead", { b, a }, { b, a }, 5)
show("line", a:receive())
selected("nothing left", { a, b }, {}, 0.01)
b:send("end\n")
selected("an end", { a, b }, {}, 5)
show("closed", b:receive())
selected("an end", { a, b }, { b }, 5)
b:close()
selected("closed", { a, b }, { b }, 0.01)

-- whatever has a descriptor
local mine = { getfd = function() return a:getfd() end, dirty = function() return false end }
names[mine] = "mine"
selected("an object", { mine }, { mine }, 0.01)
mine.dirty = function() return true end
selected("a dirty one", { mine, b }, { mine }, 5)
names[names] = "names"
selected("no descriptor", { names, { getfd = function() end }, { getfd = function() return "x" end } }, { { getfd = function() return -1 end } }, 0.01)
selected("keys do not count", { x = a }, { x = a }, 0.01)
selected("a hole ends it", { a, nil, a }, nil, 0.01)
local over = socket.source("until-closed", a)
names[over] = "source"
selected("a source", { over }, nil, 0.01)

-- datagrams
local here, there = socket.udp(), socket.udp()
names[here], names[there] = "here", "there"
here:setsockname("127.0.0.1", 0)
selected("no datagram", { here, there, a }, { here, a }, 0.01)
there:sendto("hello", here:getsockname())
selected("a datagram", { there, here, a }, nil, 5)
show("datagram", (here:receivefrom()))
