-- LuaSocket's socket.http. BACKEND is a web server that does what the path says; CLOSED a port where nobody listens.
local http = require("socket.http")
local ltn12 = require("ltn12")
local socket = require("socket")

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
  if type(body) == "string" and body:find("\r\n") then -- a request that came back; its fields have no order
    local lines = {}
    for line in body:gmatch("[^\r\n]+") do lines[#lines + 1] = line end
    local first = table.remove(lines, 1)
    table.sort(lines)
    body = first .. "|" .. table.concat(lines, "|")
  end
  print(label, body, code, sorted(fields), ...)
end

print(http.TIMEOUT, http.USERAGENT, http.PROXY)
show("get", http.request("BACKEND/"))
show("echo", http.request("BACKEND/echo?a=b#frag"))
show("params", http.request("BACKEND/echo;p=1?q"))
show("login", http.request((("BACKEND/echo"):gsub("//", "//user:se%%%%40cret@"))))
show("post", http.request("BACKEND/echo", "a=1&b=2"))
show("number post", http.request("BACKEND/echo", 42))
show("empty post", http.request("BACKEND/echo", ""))
for _, code in ipairs({ "201", "204", "301", "304", "400", "404", "500", "503" }) do
  show(code, http.request("BACKEND/status/" .. code))
end
show("chunked", http.request("BACKEND/chunked"))
show("until close", http.request("BACKEND/until-close"))
show("hang up", http.request("BACKEND/hang-up"))
show("half", http.request("BACKEND/half"))
show("garbage", http.request("BACKEND/garbage"))
show("redirect", http.request("BACKEND/redirect/302/status/404"))
show("redirect", http.request("BACKEND/redirect/302/BACKEND/echo"))
show("redirect 303", http.request("BACKEND/redirect/303/echo"))
show("redirect 308", http.request("BACKEND/redirect/308/echo"))
show("post is not redirected", http.request("BACKEND/redirect/302/echo", "x"))
show("loop", http.request("BACKEND/loop"))
show("refused", http.request("http://127.0.0.1:CLOSED/"))
show("no host", http.request("http://no.such.invalid/"))
show("no host", pcall(http.request, "http:///x"))
show("nothing", (pcall(http.request, "")))
show("no scheme", (pcall(http.request, "nosuch://host/")))

local function detailed(label, wanted)
  local body = {}
  wanted.sink = wanted.sink or ltn12.sink.table(body)
  local result, code, fields, status = http.request(wanted)
  print(label, result, code, sorted(fields), status)
  show(label .. " body", table.concat(body))
end

detailed("table", { url = "BACKEND/" })
detailed("parts", { scheme = "http", host = "127.0.0.1", port = "BPORT", path = "/echo", query = "x=y" })
detailed("method", { url = "BACKEND/echo", method = "PUT", source = ltn12.source.string("put"), headers = { ["Content-Length"] = 3, ["X-Own"] = "a", ["user-agent"] = "me" } })
detailed("head", { url = "BACKEND/status/200", method = "HEAD" })
detailed("delete", { url = "BACKEND/echo", method = "DELETE" })
detailed("no redirect", { url = "BACKEND/redirect/302/echo", redirect = false })
detailed("few redirects", { url = "BACKEND/loop", maxredirects = 1 })
detailed("no sink is fine", { url = "BACKEND/", sink = ltn12.sink.null() })
detailed("sink fails", { url = "BACKEND/", sink = function() return nil, "sink says no" end })
detailed("source fails", { url = "BACKEND/echo", method = "POST", source = ltn12.source.error("source says no"), headers = { ["content-length"] = 3 } })
detailed("proxy", { url = "http://example.com/echo?x", proxy = "BACKEND" })
detailed("proxy login", { url = "http://example.com:81/echo?x", proxy = (("BACKEND"):gsub("//", "//me:you@")) })
local steps = 0
detailed("step", { url = "BACKEND/", step = function(...) steps = steps + 1 return ltn12.pump.step(...) end })
print("steps", steps)
local created = 0
detailed("create", { url = "BACKEND/echo", create = function() created = created + 1 return socket.tcp() end })
print("created", created)
local chunks = {}
http.request({ url = "BACKEND/big", sink = function(chunk) if chunk then chunks[#chunks + 1] = #chunk end return 1 end })
print("big", #chunks, chunks[1], chunks[#chunks])
http.TIMEOUT = 0.05
show("slow", http.request("BACKEND/slow"))
show("slow body", http.request("BACKEND/slow-body"))
http.TIMEOUT = 5

local h = http.open("127.0.0.1", BPORT, socket.tcp)
h:sendrequestline("GET", "/")
h:sendheaders({ host = "x", ["x-other"] = "1" })
print("low", h:receivestatusline())
local fields = h:receiveheaders()
local body = {}
h:receivebody(fields, (ltn12.sink.table(body)))
print("low", sorted(fields), table.concat(body), h:close())
