-- What dovecot.http does, asked one thing at a time; PORT is that of the backend in tests/services/backend.py.
-- Each line "PROBE name: outcome" must be the same from Dovecot and from authlua.

local URL = "http://127.0.0.1:PORT"
local is_2_4 = dovecot.gettimeofday ~= nil

local function plain(text)
  -- 2.3 and 2.4 differ in what they say about times
  return (tostring(text):gsub("%(Request queued.*", "(...)"):gsub("in %d%.%d%d%d", "in N"):gsub("PORT", "port")
    :gsub("0x%x+", "0x"):gsub("\n.*", ""):gsub("%(conn:([^,]*),id=%d+%)", "%1"))
end

-- A request as it was received, its header in alphabetical order.
local function sorted(text)
  local head, body = text:match("^(.-)\r\n\r\n(.*)$")
  local first, rest = head:match("^([^\r]*)\r\n(.*)$")
  local lines = {}
  for line in rest:gmatch("[^\r\n]+") do lines[#lines + 1] = line:gsub("^Date: .*", "Date: now") end
  table.sort(lines)
  return first .. "~" .. table.concat(lines, "~") .. "~~" .. body
end

local function probe(name, fn)
  local results = table.pack(pcall(fn))
  local words = {}
  for i = 1, results.n do words[i] = plain(results[i]) end
  dovecot.i_info("PROBE " .. name .. ": " .. table.concat(words, " | "))
end

local function options(o)
  if not is_2_4 then return o end
  local names = {
    max_redirects = "request_max_redirects", max_attempts = "request_max_attempts",
    request_timeout_msecs = "request_timeout", request_absolute_timeout_msecs = "request_absolute_timeout",
    max_idle_time_msecs = "max_idle_time", connect_timeout_msecs = "connect_timeout",
    max_auto_retry_delay_secs = "max_auto_retry_delay",
    no_auto_redirect = "auto_redirect", no_auto_retry = "auto_retry",
  }
  local result = {}
  for name, value in pairs(o) do
    if name:find("_msecs$") then value = value .. "ms"
    elseif name:find("_secs$") then value = value .. "s"
    elseif type(value) == "boolean" then value = value and "no" or "yes"
    else value = tostring(value) end
    result[names[name] or name] = value
  end
  return result
end

local function get(path, o, method, headers, payload, ...)
  local client = dovecot.http.client(options(o or {}))
  local request = client:request{ url = path:find("^http") and path or URL .. path, method = method }
  for name, value in pairs(headers or {}) do request:add_header(name, value) end
  if payload then request:set_payload(payload, ...) end
  local response = request:submit()
  if response:reason():find("^Invalid HTTP") then return response:status() end
  return response:status(), response:reason(), response:header("x-TWICE"), response:header("Content-Length"),
    response:payload()
end

function auth_passdb_lookup(req)
  collectgarbage("stop") -- once it has collected requests that were never sent, Dovecot 2.3 misreads an answer
  local client = dovecot.http.client{}
  local function meta(name, o)
    probe("meta " .. name, function()
      local m = getmetatable(o)
      local keys = {}
      for k in pairs(type(m) == "table" and m or {}) do keys[#keys + 1] = tostring(k) end
      table.sort(keys)
      local members = {}
      for k, v in pairs(type(o) == "table" and o or {}) do members[#members + 1] = k end
      table.sort(members)
      local methods = {}
      for k in pairs(type(m) == "table" and type(m.__index) == "table" and m.__index or {}) do methods[#methods + 1] = tostring(k) end
      table.sort(methods)
      return type(o), plain(o), table.concat(keys, ","), table.concat(members, ","), table.concat(methods, ","), tostring(m and m.__name)
    end)
  end
  meta("http", dovecot.http)
  meta("client", client)
  meta("request", client:request{ url = URL .. "/" })
  meta("response", client:request{ url = URL .. "/" }:submit())
  probe("nil member", function() local a, b = client.nosuch return a, b end)

  probe("client()", function() local a, b = dovecot.http.client() return a, b end)
  probe("client(1)", function() local a, b = dovecot.http.client("x") return a, b end)
  probe("client({},1)", function() local a, b = dovecot.http.client({}, 1) return a, b end)
  probe("client{1}", function() local a, b = type(dovecot.http.client{ "x" }) return a, b end)
  probe("client unknown", function() local a, b = type(dovecot.http.client{ nosuch = "x" }) return a, b end)
  if not is_2_4 then probe("client user_agent", function() local a, b = type(dovecot.http.client{ user_agent = {} }) return a, b end) end
  probe("client user_agent number", function() local a, b = type(dovecot.http.client{ user_agent = 12 }) return a, b end)
  if not is_2_4 then
    probe("number", function() local a, b = type(dovecot.http.client{ max_attempts = "x" }) return a, b end)
    probe("number text", function() local a, b = type(dovecot.http.client{ max_attempts = "3" }) return a, b end)
    probe("number negative", function() local a, b = type(dovecot.http.client{ max_attempts = -1 }) return a, b end)
    probe("number fraction", function() local a, b = type(dovecot.http.client{ max_attempts = 1.5 }) return a, b end)
    probe("number float", function() local a, b = type(dovecot.http.client{ max_attempts = 1.0 }) return a, b end)
    probe("number huge", function() local a, b = type(dovecot.http.client{ max_attempts = 1 << 40 }) return a, b end)
    probe("boolean", function() local a, b = type(dovecot.http.client{ debug = "yes" }) return a, b end)
    probe("boolean number", function() local a, b = type(dovecot.http.client{ no_auto_retry = 1 }) return a, b end)
    probe("proxy", function() local a, b = type(dovecot.http.client{ proxy_url = "foo" }) return a, b end)
    probe("event", function() local a, b = type(dovecot.http.client{ event_parent = "foo" }) return a, b end)
  else
    for _, pair in ipairs{
      {"request_timeout", "500"}, {"request_timeout", "5x"}, {"request_timeout", "5s"}, {"request_timeout", "500 ms"},
      {"request_timeout", "0"}, {"request_timeout", 0}, {"request_timeout", 500}, {"request_timeout", "infinite"},
      {"request_timeout", ""}, {"request_timeout", "5 secs"}, {"request_timeout", "5mins"}, {"request_timeout", "5 weeks"},
      {"request_timeout", "-5s"}, {"request_timeout", "1.5s"}, {"request_timeout", "unlimited"}, {"request_timeout", "5 S"},
      {"request_max_attempts", "x"}, {"request_max_attempts", "3"}, {"request_max_attempts", 3}, {"request_max_attempts", "-1"},
      {"request_max_attempts", 1.5}, {"request_max_attempts", "99999999999"}, {"request_max_attempts", "unlimited"},
      {"auto_retry", "yes"}, {"auto_retry", "no"}, {"auto_retry", "maybe"}, {"auto_retry", "y"}, {"auto_retry", "1"},
      {"auto_redirect", "No"}, {"http_client_user_agent", "x"}, {"ssl_client_require_valid_cert", "no"},
      {"ssl_min_protocol", "x"}, {"response_hdr_max_size", "x"}, {"response_hdr_max_size", "1k"}, {"proxy_url", "foo"},
      {"ssl_client_ca_file", "/nonexistent"}, {"max_attempts", "1"}, {"request_timeout_msecs", "1s"}, {"base_dir", "/"},
      {"proxy_ssl_tunnel", "no"}, {"connect_backoff_time", "1s"}, {"dns_client_socket_path", "x"}, {"max_auto_retry_delay", "x"},
      {"max_idle_time", "5ms"}, {"max_parallel_connections", "0"}, {"max_pipelined_requests", "4"}, {"event_parent", "x"},
      {"socket_send_buffer_size", "1k"}, {"socket_recv_buffer_size", "1k"}, {"response_hdr_max_fields", "5"},
      {"response_hdr_max_field_size", "5"}, {"ssl_cipher_list", "x"}, {"ssl_options", "x"}, {"ssl_curve_list", "x"}, {"dns_ttl", "5s"},
      {"soft_connect_timeout", "5s"}, {"connect_backoff_max_time", "5s"}, {"max_connect_attempts", "5"}, {"rawlog_dir", "/tmp"},
      {"proxy_socket_path", "/tmp"}, {"proxy_username", "a"}, {"proxy_password", "b"}, {"read_request_timeout", "5s"},
      {"write_request_timeout", "5s"}, {"delete_request_timeout", "5s"}, {"read_request_max_attempts", "2"}, {"ssl", "yes"},
      {"ssl_client_cert_file", "/nonexistent"}, {"ssl_client_key_file", "/nonexistent"}, {"ssl_client_key_password", "a"}, {"ssl_client_ca_dir", "/"},
      {"ssl_cipher_suites", "x"}, {"ssl_require_crl", "no"}, {"ssl_server_cert_file", "/"}, {"dns_client_timeout", "5s"}, {"user_agent", "%{nosuch}"},
    } do
      probe("setting " .. pair[1] .. "=" .. pair[2], function() local a, b = type(dovecot.http.client{ [pair[1]] = pair[2] }) return a, b end)
    end
  end

  probe("request()", function() local a, b = client:request() return a, b end)
  probe("request(string)", function() local a, b = client:request("x") return a, b end)
  probe("request({},1)", function() local a, b = client:request({}, 1) return a, b end)
  probe("request no url", function() local a, b = client:request{ method = "GET" } return a, b end)
  probe("request url type", function() local a, b = client:request{ url = {} } return a, b end)
  probe("request url number", function() local a, b = client:request{ url = 5 } return a, b end)
  probe("request method type", function() local a, b = client:request{ url = URL, method = {} } return a, b end)
  probe("request dot", function() local a, b = client.request{ url = URL } return a, b end)
  for _, url in ipairs{ "foo", "", "/x", "ftp://x/", "http:x", "http://", "http:///x", "http://a b/", "http://x:99999/", "http://x:y/",
    "http://127.0.0.1:PORT#frag", "http://127.0.0.1:PORT/?a<b", "http://127.0.0.1:PORT/%zz", "http://127.0.0.1:PORT?x-1=%20-", "http://u:p@127.0.0.1:PORT/echo",
    "HTTP://127.0.0.1:PORT/", "http://[::1", "http://127.0.0.1:PORT/\195\164", "http://127.0.0.1:PORT/x?a=b&c=\"", "http://exa_mple.invalid/x", "http://127.0.0.1:PORT/{x}" } do
    probe("url " .. url, function() local a, b = type(client:request{ url = url }) return a, b end)
  end
  probe("bad method", function() local a, b = type(client:request{ url = URL, method = "G T" }) return a, b end)
  local r = client:request{ url = URL .. "/echo" }
  probe("add_header()", function() local a, b = r:add_header() return a, b end)
  probe("add_header(1)", function() local a, b = r:add_header("x") return a, b end)
  probe("add_header nil", function() local a, b = r:add_header("x", nil) return a, b end)
  probe("add_header table", function() local a, b = r:add_header("x", {}) return a, b end)
  probe("add_header number", function() local a, b = r:add_header("x", 1) return a, b end)
  probe("add_header ok", function() local a, b = r:add_header("X-A", "1") return a, b end)
  probe("add_header again", function() local a, b = r:add_header("x-a", "2") return a, b end)
  probe("remove_header()", function() local a, b = r:remove_header() return a, b end)
  probe("remove_header missing", function() local a, b = r:remove_header("nosuch") return a, b end)
  probe("set_payload()", function() local a, b = r:set_payload() return a, b end)
  probe("set_payload table", function() local a, b = r:set_payload({}) return a, b end)
  probe("set_payload 3", function() local a, b = r:set_payload("a", true, 1) return a, b end)
  probe("submit(1)", function() local a, b = r:submit(1) return a, b end)
  probe("submit dot", function() local a, b = r.submit() return a, b end)
  probe("echo", function()
    local response = r:submit()
    local text = response:payload()
    return sorted(text)
  end)
  local response = client:request{ url = URL .. "/" }:submit()
  probe("status", function() local a, b = math.type(response:status()), response:status() return a, b end)
  probe("status(1)", function() local a, b = response:status(1) return a, b end)
  probe("header()", function() local a, b = response:header() return a, b end)
  probe("header nil", function() local a, b = response:header(nil) return a, b end)
  probe("header missing", function() local a, b = response:header("nosuch"), response:header("x-empty") return a, b end)
  probe("headers", function() local a, b = response:header("x-twice"), response:header("X-TWICE") return a, b end)
  probe("get_event", function() local a, b = client:request{ url = URL }:get_event() return a, b end)

  local function sent(name, ...)
    local args = table.pack(...)
    probe("sent " .. name, function()
      local _, _, _, _, text = get(table.unpack(args, 1, args.n))
      return sorted(text)
    end)
  end
  sent("plain", "/echo")
  sent("query", "/echo?a=b")
  sent("fragment", "/echo#frag")
  sent("agent", "/echo", { user_agent = "me" })
  sent("post", "/echo", nil, "POST")
  sent("payload", "/echo", nil, "POST", nil, "data")
  sent("payload nul", "/echo", nil, "POST", nil, "da\0ta")
  sent("payload empty", "/echo", nil, "POST", nil, "")
  sent("payload get", "/echo", nil, "GET", nil, "data")
  if is_2_4 then
    sent("payload sync", "/echo", nil, "POST", nil, "data", true)
    sent("payload async", "/echo", nil, "POST", nil, "data", false)
  end
  sent("host", "/echo", nil, "GET", { Host = "other" })
  sent("lower host", "/echo", nil, "GET", { host = "other" })
  sent("date", "/echo", nil, "GET", { Date = "x" })
  sent("connection", "/echo", nil, "GET", { Connection = "close" })
  sent("length", "/echo", nil, "POST", { ["Content-Length"] = "4" }, "data")
  if is_2_4 then sent("expect", "/echo", nil, "POST", { ["Expect"] = "x" }, "data") end
  sent("user agent", "/echo", { user_agent = "me" }, "GET", { ["User-Agent"] = "you" })
  sent("userinfo", "http://u:p@127.0.0.1:PORT/echo")
  sent("escapes", "/echo/%41%2f%20a?%41+b")
  sent("method", "/echo", nil, "FROB")
  sent("lower method", "/echo", nil, "get")
  sent("no path", "http://127.0.0.1:PORT?x")

  local function answered(name, ...)
    local args = table.pack(...)
    probe("answered " .. name, function()
      local status, reason, twice, length, payload = get(table.unpack(args, 1, args.n))
      return status, reason, twice, payload and payload:find("HTTP") and "" or length, (payload or ""):match("^%S*")
    end)
  end
  answered("200", "/")
  answered("head", "/", nil, "HEAD")
  for _, status in ipairs{ 204, 301, 304, 400, 401, 404, 408, 500, 503, 599, 600 } do
    answered(tostring(status), "/status/" .. status)
  end
  answered("chunked", "/chunked")
  answered("until close", "/until-close")
  answered("redirect", "/redirect/302/x")
  answered("redirect absolute", "/redirect/302/" .. URL .. "/")
  answered("redirect relative", "/redirect/302/x", { max_redirects = 2 })
  answered("redirect followed", "/redirect/302/" .. URL .. "/", { max_redirects = 2 })
  for _, code in ipairs{ 300, 301, 302, 303, 304, 305, 307, 308 } do
    answered("redirect " .. code, "/redirect/" .. code .. "/" .. URL .. "/echo", { max_redirects = 2 }, "POST", nil, "data")
  end
  answered("redirect loop", "/loop", { max_redirects = 3 })
  answered("redirect not followed", "/redirect/302/" .. URL .. "/", { max_redirects = 2, no_auto_redirect = true })
  answered("hang up", "/hang-up")
  answered("hang up, tried again", "/hang-up", { max_attempts = 3 })
  answered("once", "/once")
  answered("once, tried again", "/once?x", { max_attempts = 2 })
  answered("half", "/half")
  answered("garbage", "/garbage")
  for _, head in ipairs{ "40x10", "60x10", "10x8000", "10x9000", "2x9000", "40x6000" } do
    answered("fields " .. head, "/fields/" .. head)
  end
  answered("busy", "/busy", { max_attempts = 2 })
  answered("busy, waited for", "/busy?2", { max_attempts = 2, max_auto_retry_delay_secs = 5 })
  answered("busy, not tried again", "/busy?3", { max_auto_retry_delay_secs = 5 })
  answered("late", "/late", { max_attempts = 2 })
  answered("slow", "/slow", { request_timeout_msecs = 300 })
  answered("slow body", "/slow-body", { request_timeout_msecs = 300 })
  answered("slow absolute", "/slow", { request_absolute_timeout_msecs = 300 })
  answered("refused", "http://127.0.0.1:1/")
  answered("refused again", "http://127.0.0.1:1/", { max_attempts = 2 })
  answered("no host", "http://no.such.host.invalid/")
  answered("https", "https://127.0.0.1:PORT/", { request_timeout_msecs = 2000 })
  probe("event", function()
    local e = dovecot.event()
    return type(dovecot.http.client{ event_parent = is_2_4 and e or nil })
  end)
  local client = dovecot.http.client{}
  for _, around in ipairs{ { "h.example/a", "z" }, { "h.example/a?b=", "z" }, { "u", "p@h.example/" }, { "h", "x.example/" },
      { "h.example:8", "0/" } } do
    for first = 1, 255, 16 do -- which bytes are taken, and what is said of others
      local taken, refused = {}, {}
      for byte = first, math.min(first + 15, 255) do
        local url = "http://" .. around[1] .. string.char(byte) .. around[2]
        local ok, problem = pcall(client.request, client, { url = url })
        local text = ok and "" or problem:sub(#("Failed to parse url " .. url .. ": ") + 1)
        table.insert(ok and taken or refused, ("%02x%s"):format(byte, text))
      end
      probe(("bytes from %d in %s.%s"):format(first, around[1], around[2]), function()
        return "taken " .. table.concat(taken, " "), "refused " .. table.concat(refused, ", ")
      end)
    end
  end
  probe("end", function() end)
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass" }
end
