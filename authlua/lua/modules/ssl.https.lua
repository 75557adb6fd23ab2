-- LuaSec's "ssl.https": requests of socket.http over encrypted connections.

local socket = require("socket")
local ssl = require("ssl")
local ltn12 = require("ltn12")
local http = require("socket.http")
local url = require("socket.url")
local type, pairs, concat, try = type, pairs, table.concat, socket.try

local https = { _VERSION = "1.2.0", PORT = 443, TIMEOUT = 60 }

local DEFAULTS = { protocol = "any", options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1" }, verify = "none" }

-- A `create` for socket.http: what it makes is a socket until it is connected, then the connection over it.
function https.tcp(parameters)
  parameters = parameters or {}
  for name, value in pairs(DEFAULTS) do
    parameters[name] = parameters[name] or value
  end
  parameters.mode = "client"
  return function()
    local made = { sock = try(socket.tcp()) }

    function made:settimeout()
      return self.sock:settimeout(https.TIMEOUT)
    end

    function made:connect(name, port)
      try(self.sock:connect(name, port))
      self.sock = try(ssl.wrap(self.sock, parameters))
      self.sock:sni(name)
      self.sock:settimeout(https.TIMEOUT)
      try(self.sock:dohandshake())
      return 1
    end

    return setmetatable(made, { __index = function(_, name)
      local method = made.sock[name]
      return method and function(_, ...)
        return method(made.sock, ...)
      end
    end })
  end
end

local function with_port(where)
  return url.build(url.parse(where, { port = https.PORT }))
end

function https.request(wanted, body)
  local target
  if type(wanted) == "string" then
    target = {}
    local request = { url = with_port(wanted), method = body and "POST" or "GET", sink = ltn12.sink.table(target) }
    if body then
      request.source = ltn12.source.string(body)
      request.headers = { ["content-length"] = #body, ["content-type"] = "application/x-www-form-urlencoded" }
    end
    wanted = request
  else
    wanted.url = with_port(wanted.url)
  end
  if http.PROXY or wanted.proxy then
    return nil, "proxy not supported"
  elseif wanted.redirect then
    return nil, "redirect not supported"
  elseif wanted.create then
    return nil, "create function not permitted"
  end
  wanted.create = https.tcp(wanted)
  local result, code, fields, status = http.request(wanted)
  if result and target then
    return concat(target), code, fields, status
  end
  return result, code, fields, status
end

return https
