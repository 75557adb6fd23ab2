-- LuaSec's "ssl": contexts, and connections that encrypt a socket of ours.

local core = ...
local host, check, waited, holder = core.host, core.check, core.waited, core.holder
require("socket") -- what a connection has in common with a socket
local type, ipairs, next, setmetatable = type, ipairs, next, setmetatable
local error, tostring, unpack = error, tostring, table.unpack or unpack

local ssl = {
  _VERSION = "1.2.0",
  config = {
    protocols = { any = true, sslv23 = true, tlsv1 = true, tlsv1_1 = true, tlsv1_2 = true, tlsv1_3 = true },
    algorithms = { ec = true },
    capabilities = { tlsv1_3 = true, sni = true, alpn = true },
  },
}

-- ## Contexts

local context = { __kind = "SSL context" }

local PARAMETERS = { "key", "certificate", "password", "cafile", "capath", "ciphers", "verify", "options", "alpn" }

function ssl.newcontext(parameters)
  local pairs_of = {}
  for _, name in ipairs(PARAMETERS) do
    local value = parameters[name]
    if name == "password" and type(value) == "function" then
      value = value()
    end
    if value and name == "password" and type(value) ~= "string" then
      return nil, "invalid password type"
    elseif value then
      for _, one in ipairs(type(value) == "table" and value or { value }) do
        pairs_of[#pairs_of + 1] = name
        pairs_of[#pairs_of + 1] = check.string(one, 1, name)
      end
    end
  end
  local protocol = check.string(parameters.protocol, 1, "create")
  local mode = check.string(parameters.mode, 2, "setmode")
  local made, problem = host.tls_context(protocol, mode, unpack(pairs_of))
  if not made then
    return nil, problem
  end
  return core.object(made, context)
end

-- ## Connections

local connection = {}
for name, method in next, core.tcp_methods do
  connection[name] = method
end
for _, name in ipairs({ "connect", "bind", "shutdown", "setoption", "getoption", "getpeername", "getsockname" }) do
  connection[name] = nil
end
connection.__kind, connection.__tls = "SSL connection", true

local names = setmetatable({}, { __mode = "k" })  -- connection → the name told to the server

function connection.sni(self, name)
  names[self] = check.string(name, 1, "sni")
end

function connection.dohandshake(self)
  return waited(host.tls_handshake(holder(), self, names[self]))
end

function connection.close(self)
  host.tcp_close(self)
end

function connection.want()
  return "nothing"
end

function connection.getpeerverification()
  return true
end

function connection.getalpn(self)
  local _, _, _, alpn = host.tls_about(self)
  return alpn
end

function connection.info(self, field)
  local protocol, cipher, bits = host.tls_about(self)
  local about = protocol and { protocol = protocol, cipher = cipher, bits = bits }
  if field then
    return about and about[field]
  end
  return about
end

local function certificate_of(der)
  return setmetatable({}, {
    __tostring = function() return "X509 certificate" end,
    __index = {
      pem = function() return host.tls_pem(der) end,
      digest = function(_, name)
        local text = host.tls_digest(der, name or "sha1")
        if not text then
          return nil, "digest algorithm not supported (" .. tostring(name) .. ")"
        end
        return text
      end,
    },
  })
end

function connection.getpeercertificate(self)
  local der = host.tls_certificate(self)
  return der and certificate_of(der)
end

function ssl.wrap(sock, how)
  local made, problem = how, nil
  if type(how) == "table" then
    made, problem = ssl.newcontext(how)
    if not made then
      return nil, problem
    end
  end
  if core.kinds[made] ~= context then
    error("bad argument #1 to 'create' (SSL:Context expected, got " .. type(made) .. ")", 2)
  end
  return core.object(host.tls_wrap(sock, made), connection)
end

return ssl
