-- LuaSocket's "socket.unix": connections to a path.

local core = ...
local host, check, waited, holder = core.host, core.check, core.waited, core.holder
local error, next, select, setmetatable = error, next, select, setmetatable
core.twin("socket") -- what a connection has in common with a socket

local master, client = {}, {}  -- before it is connected, and then
for name, method in next, core.tcp_methods do
  master[name], client[name] = method, method
end
for _, name in next, { "getpeername", "setpeername", "getoption", "getfamily", "bind", "setsockname" } do
  master[name], client[name] = nil, nil
end
master.__kind, master.__as = "unixstream{master}", "tcp{master}"
client.__kind, client.__as = "unixstream{client}", "tcp{client}"

function master.connect(...)
  local self = ...
  if core.kinds[self] ~= master then
    error("calling 'connect' on bad self (unixstream{master} expected)", 2)
  end
  local ok, problem = waited(host.tcp_connect(holder(), self, check.string((select(2, ...)), 2, "connect", select("#", ...)), "0"))
  if ok then
    core.object(self, client)
    return ok
  end
  return ok, problem
end
client.connect = master.connect

local function stream()
  return core.object(host.tcp_new("unix"), master)
end

local function datagram()
  error('"socket.unix" has no datagrams in authlua; without "socket" in lua.twins the real module serves', 2)
end

return setmetatable({ stream = stream, tcp = stream, dgram = datagram, udp = datagram }, { __call = stream })
