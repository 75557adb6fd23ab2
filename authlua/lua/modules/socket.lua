-- LuaSocket's "socket", as far as clients need it.

local core = ...
local host, check, waited, holder = core.host, core.check, core.waited, core.holder
local type, select, error, pcall, tonumber, setmetatable = type, select, error, pcall, tonumber, setmetatable
local getmetatable, tostring, floor, ceil = getmetatable, tostring, math.floor, math.ceil

local socket = {
  _VERSION = "LuaSocket 3.0.0", _DEBUG = false, BLOCKSIZE = 2048, _SETSIZE = 1024, _DATAGRAMSIZE = 8192, dns = {},
}

local function without(what)
  return function()
    error(what .. " has no twin in authlua; without \"socket\" in lua.twins the real module serves", 2)
  end
end

socket.bind = without("socket.bind")  -- who would wait for clients in a login?

-- ## tcp objects

local any = {}     -- methods of every socket
local master = {}  -- of one that is not connected
local client = {}  -- of one that is

local function integer(number)
  return number >= 0 and floor(number) or ceil(number)
end

local function own(self, kind, name)
  local found = core.kinds[self]
  if found == nil or kind and found.__kind ~= kind and found.__as ~= kind and not found.__tls then
    error("calling '" .. name .. "' on bad self (" .. (kind or "tcp{any}") .. " expected)", 3)
  end
  return self
end

local function connected(self, ok, problem)
  if ok then
    core.object(self, client)
    return ok
  end
  return ok, problem
end

function any.connect(...)
  local self, address, port = ...
  own(self, nil, "connect")
  address = check.string(address, 1, "connect", select("#", ...) - 1)
  port = check.string(port, 2, "connect", select("#", ...) - 1)
  return connected(self, waited(host.tcp_connect(holder(), self, address, port)))
end

function any.close(self)
  host.tcp_close(own(self, nil, "close"))
  return 1.0
end

function any.settimeout(self, seconds, mode)
  own(self, nil, "settimeout")
  if seconds ~= nil then
    seconds = check.number(seconds, 1, "settimeout")
  end
  mode = mode == nil and "b" or check.string(mode, 2, "settimeout"):sub(1, 1)
  if mode ~= "b" and mode ~= "t" and mode ~= "r" then
    check.complain(2, "settimeout", "invalid timeout mode")
  end
  host.tcp_set_timeout(self, seconds, mode ~= "b")
  return 1.0
end

function any.gettimeout(self)
  return host.tcp_timeouts(own(self, nil, "gettimeout"))
end

function any.getpeername(self)
  local address, port, family = host.tcp_peer(own(self, "tcp{client}", "getpeername"))
  if not address then
    return nil, port
  end
  return address, floor(tonumber(port)), family
end

function any.getsockname(self)
  return host.tcp_own(own(self, nil, "getsockname"))
end

function any.getfamily(self)
  return host.tcp_family(own(self, nil, "getfamily"))
end

function any.getfd(self)
  return host.tcp_fd(own(self, nil, "getfd"))
end

function any.dirty(self)
  return host.tcp_dirty(own(self, nil, "dirty"))
end

function any.getstats(self)
  return host.tcp_stats(own(self, nil, "getstats"))
end

function any.setstats(self, received, sent, age)
  host.tcp_set_stats(own(self, nil, "setstats"), received, sent, age)
  return 1.0
end

local function unsupported(name)
  return "unsupported option `" .. name:sub(1, 35) .. "'"
end

function any.setoption(...)
  local self, name, value = ...
  local count, more = select("#", ...) - 1, nil
  own(self, nil, "setoption")
  name = check.string(name, 1, "setoption", count)
  local kind = host.tcp_option_kind(self, name)
  if kind == "" then
    check.complain(1, "setoption", unsupported(name))
  elseif kind == "flag" and type(value) ~= "boolean" then
    check.complain(2, "setoption", "boolean expected, got " .. (count < 2 and "no value" or type(value)))
  elseif kind == "number" then
    value = check.number(value, 2, "setoption")
  elseif kind == "linger" then
    if type(value) ~= "table" then
      check.complain(2, "setoption", "table expected, got " .. type(value))
    elseif type(value.on) ~= "boolean" then
      check.complain(2, "setoption", "boolean 'on' field expected")
    elseif type(value.timeout) ~= "number" then
      check.complain(2, "setoption", "number 'timeout' field expected")
    end
    value, more = value.on, value.timeout
  end
  return host.tcp_set_option(self, name, value, more)
end

local function lingering(on, seconds)
  if on == nil then
    return nil, seconds
  end
  return { on = on, timeout = seconds }
end

function any.getoption(...)
  local self, name = ...
  own(self, nil, "getoption")
  name = check.string(name, 1, "getoption", select("#", ...) - 1)
  local kind = host.tcp_option_kind(self, name)
  if kind == "" and name ~= "error" then
    check.complain(1, "getoption", unsupported(name))
  end
  if kind == "linger" then
    return lingering(host.tcp_get_option(self, name))
  end
  return host.tcp_get_option(self, name)
end

local HOW = { receive = 0, send = 1, both = 2 }
function any.shutdown(self, how)
  own(self, "tcp{client}", "shutdown")
  how = how == nil and "both" or check.string(how, 1, "shutdown")
  if not HOW[how] then
    check.complain(1, "shutdown", "invalid option '" .. how .. "'")
  end
  return host.tcp_shutdown(self, HOW[how])
end

function any.bind(...)
  local self, address, port = ...
  own(self, "tcp{master}", "bind")
  address = check.string(address, 1, "bind", select("#", ...) - 1)
  port = check.number(port, 2, "bind", select("#", ...) - 1)
  return host.tcp_bind(self, address, integer(port))
end
any.setsockname = any.bind
any.setpeername = any.connect
any.listen, any.accept = without("listen"), without("accept")

function any.send(...)
  local self, data, first, last = ...
  own(self, "tcp{client}", "send")
  data = check.string(data, 1, "send", select("#", ...) - 1)
  if first == nil and last == nil then
    return waited(host.tcp_send(holder(), self, data, 0))
  end
  first = first == nil and 1 or integer(check.number(first, 2, "send"))
  last = last == nil and -1 or integer(check.number(last, 3, "send"))
  if first < 0 then first = #data + first + 1 end
  if last < 0 then last = #data + last + 1 end
  if first < 1 then first = 1 end
  return waited(host.tcp_send(holder(), self, data:sub(first, last), first - 1))
end

function any.receive(...)
  local self, pattern, prefix = ...
  own(self, "tcp{client}", "receive")
  local kind = type(pattern)
  if kind == "nil" then
    pattern = "l"
  elseif kind == "number" then
    pattern = integer(pattern)
    if pattern < 0 then
      check.complain(1, "receive", "invalid receive pattern")
    end
  else
    pattern = check.string(pattern, 1, "receive"):match("^%*([la])")
    if not pattern then
      check.complain(1, "receive", "invalid receive pattern")
    end
  end
  prefix = prefix == nil and "" or check.string(prefix, 2, "receive")
  return waited(host.tcp_receive(holder(), self, pattern, prefix))
end

for name, method in next, any do
  master[name], client[name] = method, method
end
master.__kind, client.__kind = "tcp{master}", "tcp{client}"

core.tcp_methods = client

local function new(family)
  return core.object(host.tcp_new(family), master)
end

function socket.tcp() return new("unspec") end
function socket.tcp4() return new("inet") end
function socket.tcp6() return new("inet6") end

function socket.connect(address, port, local_address, local_port, family)
  local sock = new(family == "inet6" and "inet6" or family == "inet" and "inet" or "unspec")
  if local_address then
    local ok, problem = sock:bind(local_address, local_port or 0)
    if not ok then
      return nil, problem
    end
  end
  local ok, problem = sock:connect(address, port)
  if not ok then
    sock:close()
    return nil, problem
  end
  return sock
end

function socket.connect4(address, port, local_address, local_port)
  return socket.connect(address, port, local_address, local_port, "inet")
end

function socket.connect6(address, port, local_address, local_port)
  return socket.connect(address, port, local_address, local_port, "inet6")
end

function socket.udp() return core.twin("socket.udp")("unspec") end
function socket.udp4() return core.twin("socket.udp")("inet") end
function socket.udp6() return core.twin("socket.udp")("inet6") end

function socket.select(...) return core.twin("socket.select")(...) end

-- ## Time

function socket.gettime()
  return host.gettime()
end

function socket.sleep(...)
  waited(host.sleep(check.number((...), 1, "sleep", select("#", ...))))
end

-- ## Names

local function host_of(name, others, ...)
  if name == nil then
    return nil, others
  end
  local about = { name = name, alias = {}, ip = {} }
  for i = 1, select("#", ...) do
    local list = i <= others and about.alias or about.ip
    list[#list + 1] = (select(i, ...))
  end
  return about
end

function socket.dns.toip(...)
  local name = check.string((...), 1, "toip", select("#", ...))
  local about, problem = host_of(waited(host.lookup_host(name)))
  if about then
    return about.ip[1], about
  end
  return nil, problem
end

function socket.dns.tohostname(address)
  local about, problem = host_of(waited(host.lookup_name(check.string(address, 1, "tohostname"))))
  if about then
    return about.name, about
  end
  return nil, problem
end

local function addresses(first, ...)
  if first == nil then
    return nil, (...)
  end
  local flat, list = { first, ... }, {}
  for i = 1, #flat, 2 do
    list[#list + 1] = { family = flat[i], addr = flat[i + 1] }
  end
  return list
end

function socket.dns.getaddrinfo(name)
  return addresses(waited(host.lookup(check.string(name, 1, "getaddrinfo"))))
end

function socket.dns.gethostname()
  return host.host_name()
end

-- ## Errors that are thrown and caught

local EXCEPTION = {}

function socket.newtry(finalizer)
  return function(...)
    if not (...) then
      if type(finalizer) == "function" then
        pcall(finalizer)
      end
      error(setmetatable({ (select(2, ...)) }, EXCEPTION), 0)
    end
    return ...
  end
end

socket.try = socket.newtry()

local function caught(ok, ...)
  if ok then
    return ...
  end
  local thrown = ...
  if type(thrown) == "table" and getmetatable(thrown) == EXCEPTION then
    return nil, thrown[1]
  end
  error(thrown, 0)
end

function socket.protect(fn)
  return function(...)
    return caught(pcall(fn, ...))
  end
end

function socket.skip(count, ...)
  return select(count + 1, ...)
end

-- ## Sources and sinks over sockets, for ltn12

function socket.choose(table)
  return function(name, first, second)
    if type(name) ~= "string" then
      name, first, second = "default", name, first
    end
    local make = table[name or "nil"]
    if not make then
      error("unknown key (" .. tostring(name) .. ")", 3)
    end
    return make(first, second)
  end
end

-- Something callable that also tells about the socket under it.
local function over(sock, step)
  return setmetatable({
    getfd = function() return sock:getfd() end,
    dirty = function() return sock:dirty() end,
  }, { __call = function(_, ...) return step(...) end })
end

socket.sinkt = {}
socket.sourcet = {}

socket.sinkt["close-when-done"] = function(sock)
  return over(sock, function(chunk)
    if chunk then
      return sock:send(chunk)
    end
    sock:close()
    return 1
  end)
end

socket.sinkt["keep-open"] = function(sock)
  return over(sock, function(chunk)
    if chunk then
      return sock:send(chunk)
    end
    return 1
  end)
end

socket.sinkt["default"] = socket.sinkt["keep-open"]

socket.sourcet["by-length"] = function(sock, length)
  return over(sock, function()
    if length <= 0 then
      return nil
    end
    local chunk, problem = sock:receive(length < socket.BLOCKSIZE and length or socket.BLOCKSIZE)
    if problem then
      return nil, problem
    end
    length = length - #chunk
    return chunk
  end)
end

socket.sourcet["until-closed"] = function(sock)
  local ended = false
  return over(sock, function()
    if ended then
      return nil
    end
    local chunk, problem, partial = sock:receive(socket.BLOCKSIZE)
    if not problem then
      return chunk
    elseif problem == "closed" then
      sock:close()
      ended = true
      return partial
    end
    return nil, problem
  end)
end

socket.sourcet["default"] = socket.sourcet["until-closed"]

socket.sink = socket.choose(socket.sinkt)
socket.source = socket.choose(socket.sourcet)

return socket
