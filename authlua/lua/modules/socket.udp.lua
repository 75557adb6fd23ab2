-- LuaSocket's `udp` objects.

local core = ...
local host, check, waited, holder = core.host, core.check, core.waited, core.holder
local type, select, error, next, floor = type, select, error, next, math.floor

local any = {}                      -- methods of every one
local unconnected, connected = {}, {}
local SIZE = 8192                   -- LuaSocket's _DATAGRAMSIZE

local function own(self, kind, name)
  local found = core.kinds[self]
  if found ~= unconnected and found ~= connected or kind and found.__kind ~= kind then
    error("calling '" .. name .. "' on bad self (" .. (kind or "udp{any}") .. " expected)", 3)
  end
  return self
end

-- What it has in common with other sockets.
for name in ("close settimeout gettimeout getsockname getfd dirty getfamily setoption getoption"):gmatch("%S+") do
  any[name] = core.tcp_methods[name]
end

function any.getpeername(self)
  local address, port, family = host.tcp_peer(own(self, "udp{connected}", "getpeername"))
  if not address then
    return nil, port
  end
  return address, floor(port + 0), family
end

function any.send(self, data)
  own(self, "udp{connected}", "send")
  return waited(host.udp_send(holder(), self, check.string(data, 1, "send")))
end

function any.sendto(...)
  local self, data, address, port = ...
  own(self, "udp{unconnected}", "sendto")
  local count = select("#", ...) - 1
  data, address = check.string(data, 1, "sendto", count), check.string(address, 2, "sendto", count)
  return waited(host.udp_send_to(holder(), self, data, address, check.string(port, 3, "sendto", count)))
end

local function received(self, size)
  if size < 0 then
    return nil, "out of memory"
  end
  return waited(host.udp_receive(holder(), self, floor(size)))
end

local function data_of(data, address)
  if data then
    return data
  end
  return data, address
end

function any.receive(self, size)
  own(self, nil, "receive")
  return data_of(received(self, size == nil and SIZE or check.number(size, 1, "receive")))
end

function any.receivefrom(self, size)
  own(self, "udp{unconnected}", "receivefrom")
  return received(self, size == nil and SIZE or check.number(size, 1, "receivefrom"))
end

function any.setpeername(...)
  local self, address, port = ...
  own(self, nil, "setpeername")
  address = check.string(address, 1, "setpeername", select("#", ...) - 1)
  local ok, problem
  if address == "*" then
    ok, problem = host.udp_disconnect(self)
  else
    port = check.string(port, 2, "setpeername", select("#", ...) - 1)
    ok, problem = waited(host.udp_name(holder(), self, "connect", address, port))
  end
  if not ok then
    return nil, problem
  end
  core.object(self, address == "*" and unconnected or connected)
  return ok
end

function any.setsockname(...)
  local self, address, port = ...
  own(self, "udp{unconnected}", "setsockname")
  address = check.string(address, 1, "setsockname", select("#", ...) - 1)
  port = check.string(port, 2, "setsockname", select("#", ...) - 1)
  return waited(host.udp_name(holder(), self, "bind", address == "*" and "0.0.0.0" or address, port))
end

for name, method in next, any do
  unconnected[name], connected[name] = method, method
end
unconnected.__kind, connected.__kind = "udp{unconnected}", "udp{connected}"

return function(family)
  return core.object(host.udp_new(family), unconnected)
end
