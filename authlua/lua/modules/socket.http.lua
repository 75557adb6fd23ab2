-- LuaSocket's "socket.http": HTTP/1.1 requests over sockets of ours, or whatever the script's `create` gives.

local core = ...
local host, waited = core.host, core.waited
local socket = require("socket")
local url = require("socket.url")
local ltn12 = require("ltn12")
local mime = require("mime")
local canonic = require("socket.headers").canonic
local type, pairs, tostring, tonumber, setmetatable = type, pairs, tostring, tonumber, setmetatable
local assert, concat = assert, table.concat
local try, pump = socket.try, ltn12.pump

local http = { TIMEOUT = 60, USERAGENT = socket._VERSION }

local SCHEMES = {
  http = { port = 80, create = function() return socket.tcp end },
  https = { port = 443, create = function(request)
    local https = assert(require("ssl.https"), "LuaSocket: LuaSec not found")
    return assert(https.tcp, "LuaSocket: Function tcp() not available from LuaSec")(request)
  end },
}

-- ## What comes back

-- Fields of a head or a trailer, until an empty line; nil and what went wrong.
local function receive_fields(sock, fields)
  local line, problem = sock:receive()
  while line ~= "" do
    if problem then
      return nil, problem
    end
    local name, value = line:match("^(.-):%s*(.*)")
    if not name then
      return nil, "malformed reponse headers"
    end
    name = name:lower()
    line, problem = sock:receive()
    while line and line:find("^%s") do
      value = value .. line
      line, problem = sock:receive()
    end
    if problem then
      return nil, problem
    end
    fields[name] = fields[name] and fields[name] .. ", " .. value or value
  end
  return fields
end

local function over(sock, step)
  return setmetatable({
    getfd = function() return sock:getfd() end,
    dirty = function() return sock:dirty() end,
  }, { __call = step })
end

socket.sourcet["http-chunked"] = function(sock, fields)
  return over(sock, function()
    local line, problem = sock:receive()
    if problem then
      return nil, problem
    end
    local size = tonumber((line:gsub(";.*", "")), 16)
    if not size then
      return nil, "invalid chunk size"
    elseif size > 0 then
      local chunk
      chunk, problem = sock:receive(size)
      if chunk then
        sock:receive()
      end
      return chunk, problem
    end
    fields, problem = receive_fields(sock, fields or {})
    if not fields then
      return nil, problem
    end
  end)
end

socket.sinkt["http-chunked"] = function(sock)
  return over(sock, function(_, chunk)
    if chunk then
      return sock:send(("%X\r\n"):format(#chunk) .. chunk .. "\r\n")
    end
    return sock:send("0\r\n\r\n")
  end)
end

-- ## A connection, step by step

local steps = {}
steps.__index = steps

function http.open(name, port, create)
  local connection = setmetatable({ c = try(create()) }, steps)
  connection.try = socket.newtry(function() connection:close() end)
  connection.try(connection.c:settimeout(http.TIMEOUT))
  connection.try(connection.c:connect(name, port))
  return connection
end

local function request_line(method, uri)
  return ("%s %s HTTP/1.1\r\n"):format(method or "GET", uri)
end

local function field_lines(fields)
  local lines = {}
  for name, value in pairs(fields) do
    lines[#lines + 1] = (canonic[name] or name) .. ": " .. value .. "\r\n"
  end
  lines[#lines + 1] = "\r\n"
  return concat(lines)
end

function steps:sendrequestline(method, uri)
  return self.try(self.c:send(request_line(method, uri)))
end

function steps:sendheaders(fields)
  self.try(self.c:send(field_lines(fields)))
  return 1
end

function steps:sendbody(fields, source, step)
  local mode = fields["content-length"] and "keep-open" or "http-chunked"
  return self.try(pump.all(source or ltn12.source.empty(), socket.sink(mode, self.c), step))
end

-- The code and the line; nil and what came instead when the server knows HTTP/0.9 only; 408 when nothing came.
function steps:receivestatusline()
  local begun, problem = self.try(self.c:receive(5))
  if begun ~= "HTTP/" then
    if problem == "timeout" then
      return 408
    end
    return nil, begun
  end
  local line = self.try(self.c:receive("*l", begun))
  return self.try(tonumber(line:match("HTTP/%d*%.%d* (%d%d%d)")), line)
end

function steps:receiveheaders()
  return self.try(receive_fields(self.c, {}))
end

function steps:receivebody(fields, sink, step)
  local length, coding = tonumber(fields["content-length"]), fields["transfer-encoding"]
  local source
  if coding and coding ~= "identity" then
    source = socket.source("http-chunked", self.c)
  elseif length then
    source = socket.source("by-length", self.c, length)
  else
    source = socket.source("default", self.c)
  end
  return self.try(pump.all(source, sink or ltn12.sink.null(), step))
end

function steps:receive09body(begun, sink, step)
  local source = ltn12.source.rewind(socket.source("until-closed", self.c))
  source(begun)
  return self.try(pump.all(source, sink, step))
end

function steps:close()
  return self.c:close()
end

-- ## What is asked

local DEFAULT = { path = "/", scheme = "http" }

local function login(user, password)
  return "Basic " .. mime.b64(user .. ":" .. password)
end

local function fields_of(request, proxy)
  local where = request.host
  if tostring(request.port) ~= tostring(SCHEMES[request.scheme].port) then
    where = where .. ":" .. tostring(request.port)
  end
  local fields = { ["user-agent"] = http.USERAGENT, host = where, connection = "close, TE", te = "trailers" }
  if request.user and request.password then
    fields.authorization = login(request.user, url.unescape(request.password))
  end
  if proxy and proxy.user and proxy.password then
    fields["proxy-authorization"] = login(proxy.user, proxy.password)
  end
  for name, value in pairs(request.headers or {}) do
    fields[name:lower()] = value
  end
  if request.source and not fields["content-length"] and not fields["transfer-encoding"] then
    fields["transfer-encoding"] = "chunked"
  end
  return fields
end

-- What an ordinary URL consists of, without taking it apart further.
local function quick_parts(where)
  local scheme, name, port, uri = where:match("^(http)://([%w%.%-]+):?(%d*)(/[^#;]*)$")
  if scheme and not http.PROXY then
    return { scheme = scheme, host = name, port = port, uri = uri }
  end
end

-- All that has to be known of a request, from its URL and what the script said besides, which counts more.
local function complete(wanted)
  local request = wanted.target and quick_parts(wanted.url) or wanted.url and url.parse(wanted.url, DEFAULT) or {}
  for name, value in pairs(wanted) do
    request[name] = value
  end
  local scheme = SCHEMES[request.scheme]
  if not request.create then
    request.create = scheme.create(request)
  end
  if not request.port or request.port == "" then
    request.port = scheme.port
  end
  if not request.method or request.method == "" then
    request.method = "GET"
  end
  if not request.host or request.host == "" then
    try(nil, "invalid host '" .. tostring(request.host) .. "'")
  end
  local proxy = request.proxy or http.PROXY
  if not request.uri then
    request.uri = url.build(proxy and request or {
      path = try(request.path, "invalid path 'nil'"),
      params = request.params,
      query = request.query,
      fragment = request.fragment,
    })
  end
  proxy = proxy and url.parse(proxy)
  request.headers = fields_of(request, proxy)
  if proxy then
    request.host, request.port = proxy.host, proxy.port or 3128
  end
  return request
end

local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true }

local function goes_on(request, code, fields)
  local location = fields.location and fields.location:gsub("%s", "") or ""
  if location == "" then
    return false
  end
  local scheme = url.parse(location).scheme
  if scheme and not SCHEMES[scheme] or request.scheme == "https" and scheme ~= "https" then
    return false
  end
  return request.redirect ~= false and REDIRECTS[code] and not request.source
    and (not request.method or request.method == "GET" or request.method == "HEAD")
    and (request.maxredirects == false or (request.nredirects or 0) < (request.maxredirects or 5))
end

local perform

local function follow(wanted, location)
  local where = url.absolute(wanted.url, location)
  if url.parse(where).scheme ~= wanted.scheme then
    wanted.port, wanted.create = nil, nil
  end
  local result, code, fields, status = perform({
    url = where,
    source = wanted.source,
    sink = wanted.sink,
    headers = wanted.headers,
    proxy = wanted.proxy,
    maxredirects = wanted.maxredirects,
    nredirects = (wanted.nredirects or 0) + 1,
    create = wanted.create,
  })
  fields = fields or {}
  fields.location = fields.location or location
  return result, code, fields, status
end

-- A connection with the request sent, its status line and fields if they have come, and the body if it is `target`'s.
local exchange, client = host.http_exchange, core.tcp_methods
local function sent(request, target)
  local head = request_line(request.method, request.uri) .. field_lines(request.headers)
  if request.create ~= socket.tcp or request.step or request.source and not target then
    local connection = http.open(request.host, request.port, request.create)
    connection.try(connection.c:send(head))
    if request.source then
      connection:sendbody(request.headers, request.source, request.step)
    end
    return connection
  end
  local sock, trouble, status, lines, body = waited(exchange(
    request.host, tostring(request.port), http.TIMEOUT or -1, head .. (target and target.body or ""), target ~= nil))
  if not sock then
    try(nil, trouble)
  end
  local connection = setmetatable({ c = core.object(sock, client) }, steps)
  connection.try = socket.newtry(function() connection:close() end)
  return connection, trouble, status, lines, body
end

-- The fields in `lines`, which may be folded; nil when one is none.
local function fields_in(lines)
  local fields = {}
  if lines:find("\n[ \t]") then
    lines = lines:gsub("\n([ \t])", "%1")
  end
  for line in lines:gmatch("([^\n]*)\n") do
    local name, value = line:match("^(.-):%s*(.*)")
    if not name then
      return nil
    end
    name = name:lower()
    fields[name] = fields[name] and fields[name] .. ", " .. value or value
  end
  return fields
end

function perform(wanted, target)
  local request = complete(wanted)
  local connection, trouble, status, lines, body = sent(request, target)
  local code, fields
  if trouble then
    connection.try(nil, trouble)
  elseif status then
    code = connection.try(tonumber(status:match("HTTP/%d*%.%d* (%d%d%d)")), status)
    fields = connection.try(fields_in(lines), "malformed reponse headers")
  else
    code, status = connection:receivestatusline()
    if not code then
      connection:receive09body(status, request.sink, request.step)
      return 1, 200
    elseif code == 408 then
      return 1, code
    end
    fields = connection:receiveheaders()
  end
  if body then
    target[1] = body
    return 1, code, fields, status
  end
  while code == 100 do
    code, status = connection:receivestatusline()
    fields = connection:receiveheaders()
  end
  if goes_on(request, code, fields) then
    connection:close()
    return follow(wanted, fields.location)
  end
  if request.method ~= "HEAD" and code ~= 204 and code ~= 304 and not (code >= 100 and code < 200) then
    connection:receivebody(fields, request.sink, request.step)
  end
  connection:close()
  return 1, code, fields, status
end

function http.genericform(where, body)
  local target = { body = body and tostring(body) }
  local request = { url = where, sink = ltn12.sink.table(target), target = target }
  if body then
    request.source = ltn12.source.string(target.body)
    request.headers = { ["content-length"] = #target.body, ["content-type"] = "application/x-www-form-urlencoded" }
    request.method = "POST"
  end
  return request
end

http.request = socket.protect(function(wanted, body)
  if type(wanted) ~= "string" then
    return perform(wanted)
  end
  local request = http.genericform(wanted, body)
  local _, code, fields, status = perform(request, request.target)
  return concat(request.target), code, fields, status
end)

http.schemes = SCHEMES
return http
