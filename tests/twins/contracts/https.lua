-- LuaSec's ssl and ssl.https. BACKEND is an https server, CERT its certificate, PLAIN a port where nobody speaks TLS.
local https, ssl, socket, ltn12 = require("ssl.https"), require("ssl"), require("socket"), require("ltn12")

local function sorted(fields)
  if type(fields) ~= "table" then
    return tostring(fields)
  end
  local words = {}
  for name, value in pairs(fields) do
    words[#words + 1] = name .. "=" .. tostring(value)
  end
  table.sort(words)
  return "{" .. table.concat(words, "; ") .. "}"
end

local function show(label, body, code, fields, ...)
  if type(body) == "string" and body:find("\r\n") then
    local lines = {}
    for line in body:gmatch("[^\r\n]+") do lines[#lines + 1] = line end
    local first = table.remove(lines, 1)
    table.sort(lines)
    body = first .. "|" .. table.concat(lines, "|")
  end
  print(label, body, code, sorted(fields), ...)
end

print(https.PORT, https.TIMEOUT, https._VERSION, ssl._VERSION)
show("get", https.request("BACKEND/"))
show("echo", https.request("BACKEND/echo?x"))
show("post", https.request("BACKEND/echo", "a=b"))
show("status", https.request("BACKEND/status/404"))
show("chunked", https.request("BACKEND/chunked"))
show("cut off at once", https.request("BACKEND/hang-up"))
show("cut off", https.request("BACKEND/half"))
show("cut off where it may end", https.request("BACKEND/until-close"))
show("refused", https.request("https://127.0.0.1:1/"))
show("not TLS", https.request("https://127.0.0.1:PLAIN/"))
show("no host", https.request("https://no.such.invalid/"))
show("verified", https.request({ url = "BACKEND/", verify = "peer", cafile = "CERT", sink = ltn12.sink.null() }))
show("not verified", https.request({ url = "BACKEND/", verify = "peer", cafile = "/etc/ssl/certs/ca-certificates.crt" }))
show("no file", https.request({ url = "BACKEND/", verify = "peer", cafile = "/nosuch.pem" }))
show("protocol", https.request({ url = "BACKEND/", protocol = "nosuch" }))
show("old", https.request({ url = "BACKEND/", protocol = "tlsv1_2" }))
show("verify", https.request({ url = "BACKEND/", verify = "nosuch" }))
show("option", https.request({ url = "BACKEND/", options = { "nosuch" } }))
show("ciphers", https.request({ url = "BACKEND/", ciphers = "nosuch" }))
show("proxy", https.request({ url = "BACKEND/", proxy = "http://x" }))
show("redirect", https.request({ url = "BACKEND/", redirect = true }))
show("create", https.request({ url = "BACKEND/", create = socket.tcp }))
show("over http", require("socket.http").request("BACKEND/"))

local function connect(how)
  local sock = assert(socket.connect("127.0.0.1", TPORT))
  return ssl.wrap(sock, how)
end
print("no protocol", (pcall(ssl.newcontext, { mode = "client" })))
print("mode", type(ssl.newcontext({ mode = "nosuch", protocol = "any" })))
print("key", ssl.newcontext({ mode = "client", protocol = "any", key = "/nosuch" }))
print("certificate", ssl.newcontext({ mode = "client", protocol = "any", certificate = "/nosuch" }))
local context = ssl.newcontext({ mode = "client", protocol = "any", verify = "none" })
print("context", type(context), (tostring(context):gsub(": 0x.*", "")))
local conn = connect(context)
print("connection", type(conn), (tostring(conn):gsub(": 0x.*", "")))
print("before", conn:send("x"))
print("before", conn:receive())
print("sni", conn:sni("localhost"))
print("handshake", conn:dohandshake())
print("timeout", conn:settimeout(0.05))
print("quiet", conn:receive())
print("timeout", conn:settimeout(0))
print("quiet", conn:receive())
conn:settimeout(5)
print("send", conn:send("GET / HTTP/1.0\r\n\r\n"))
print("line", conn:receive())
print("some", conn:receive(4))
print("rest", conn:receive(), conn:receive("*l", "x"))
print("certificate", #conn:getpeercertificate():digest("sha256"), conn:getpeercertificate():pem():sub(1, 27))
print("info", conn:info("protocol"), conn:info().cipher, conn:info("bits"))
print("close", conn:close())
print("closed", conn:receive())
print("closed", conn:send("x"))
conn = connect({ mode = "client", protocol = "any", verify = "peer", cafile = "/etc/ssl/certs/ca-certificates.crt" })
print("handshake", conn:dohandshake())
conn:close()
local sock = assert(socket.connect("127.0.0.1", TPORT))
print("bad", ssl.wrap(sock, { mode = "client", protocol = "nosuch" }))
sock:close()
