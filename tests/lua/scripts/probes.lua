-- Many small questions to the Lua API, asked of Dovecot and of authlua. Each is a log line "PROBE name = answers";
-- both sides must log the same lines. Nothing here crashes Dovecot 2.3.19 or 2.4.1.

local function shown(value)
  local kind = type(value)
  if kind == "table" or kind == "function" or kind == "userdata" or kind == "thread" then
    return kind
  end
  return kind .. ":" .. tostring(value)
end

local function probe(name, fn, ...)
  local function pack(...) return { n = select("#", ...), ... } end
  local out = pack(pcall(fn, ...))
  for i = 1, out.n do out[i] = shown(out[i]) end
  local line = table.concat(out, " | ", 1, out.n):gsub("\n.*", ""):gsub("[%c]", "?")
  dovecot.i_info("PROBE " .. name .. " = " .. line)
end

local function keys(t)
  local list = {}
  for k, v in pairs(t) do list[#list + 1] = tostring(k) .. ":" .. type(v) end
  table.sort(list)
  return table.concat(list, ",")
end

local function without_item(t)
  local list = {}
  for k in pairs(t) do if k ~= "item" then list[#list + 1] = tostring(k) end end
  table.sort(list)
  return table.concat(list, ",")
end

local function the_table(req)
  probe("dovecot.auth keys", function() return keys(dovecot.auth) end)
  for _, name in ipairs {
    "PASSDB_RESULT_OK", "PASSDB_RESULT_PASSWORD_MISMATCH", "PASSDB_RESULT_INTERNAL_FAILURE",
    "PASSDB_RESULT_SCHEME_NOT_AVAILABLE", "PASSDB_RESULT_USER_UNKNOWN", "PASSDB_RESULT_USER_DISABLED",
    "PASSDB_RESULT_PASS_EXPIRED", "PASSDB_RESULT_NEXT", "USERDB_RESULT_OK", "USERDB_RESULT_INTERNAL_FAILURE",
    "USERDB_RESULT_USER_UNKNOWN",
  } do
    probe(name, function() return dovecot.auth[name], math.type(dovecot.auth[name]) end)
  end
  probe("metatable names", function()
    return getmetatable(dovecot).__name, getmetatable(dovecot.auth).__name
  end)
  for _, name in ipairs {
    "i_debug", "i_error", "event", "has_flag", "set_flag", "clear_flag", "restrict_global_variables", "gettimeofday",
    "nanoseconds", "microseconds", "net_ip_family", "tabescape", "tabunescape", "split_tabescaped", "dict",
    "doveadm_client", "base64", "var_expand", "nonsense", "storage", "http", "io", "json", "strftime", "crypt",
  } do
    probe("dovecot." .. name, function() return type(dovecot[name]), type(rawget(dovecot, name)) end)
  end
  for _, flags in ipairs { { 6, 2 }, { 6, 1 }, { 0, 0 }, { "6", 4 }, { 2.0, 2 }, { -1, 8 }, { 7, 3 } } do
    probe("flags " .. flags[1] .. " " .. flags[2], function()
      return dovecot.has_flag(flags[1], flags[2]), dovecot.set_flag(flags[1], flags[2]),
        dovecot.clear_flag(flags[1], flags[2])
    end)
  end
  probe("flag fraction", function() return (dovecot.has_flag(1.5, 1)) end)
  probe("flag text", function() return (dovecot.has_flag("x", 1)) end)
  probe("flag negative", function() return dovecot.has_flag(-1, -1), dovecot.clear_flag(-1, 1) end)
  probe("flag wide", function() return dovecot.set_flag(math.maxinteger, 1), dovecot.set_flag(1 << 40, 1) end)
  probe("flag count", function() return (dovecot.has_flag(1)) end)
  probe("set_flag count", function() return (dovecot.set_flag(1, 2, 3)) end)
  for _, name in ipairs { "i_debug", "i_info", "i_warning", "i_error" } do
    probe(name .. " arguments", function() return select("#", dovecot[name]("PROBE line of " .. name)) end)
    probe(name .. " none", function() return dovecot[name]() end)
  end
  probe("i_info count", function() return (dovecot.i_info()) end)
  probe("i_info two", function() return (dovecot.i_info("a", "b")) end)
  probe("i_info nil", function() return (dovecot.i_info(nil)) end)
  probe("i_info table", function() return (dovecot.i_info({})) end)
  probe("i_info returns", function() return (dovecot.i_info("PROBE as number below")) end)
  probe("i_warning number", function() return (dovecot.i_warning(12)) end)
  probe("restrict count", function() return (dovecot.restrict_global_variables()) end)
  probe("assign", function() dovecot.mine = 3 return dovecot.mine, rawget(dovecot, "mine") end)
  probe("shadow", function() dovecot.i_info2 = dovecot.i_info return type(dovecot.i_info2) end)
  probe("constants can change", function() dovecot.auth.MINE = 1 return dovecot.auth.MINE end)
end

local function globals()
  setmetatable(_G, { __index = function() return "of my own" end })
  probe("own metatable", function() return no_such_thing end)
  dovecot.restrict_global_variables(true)
  probe("read undeclared", function() return no_such_thing end)
  probe("write undeclared", function() no_such_thing = 1 end)
  probe("write function", function() a_function = function() end return type(a_function) end)
  probe("write existing", function() a_function = 5 return a_function end)
  probe("rawset", function() rawset(_G, "raw", 1) return raw end)
  probe("numeric global", function() _G[5] = 1 end)
  probe("read numeric", function() return _G[5] end)
  probe("read table", function() return (_G[{}]) end)
  probe("rawget", function() return rawget(_G, "no_such_thing") end)
  probe("table global", function() _G[{}] = 1 end)
  dovecot.restrict_global_variables(false)
  probe("read again", function() return no_such_thing end)
  probe("metatable", function() return type(getmetatable(_G)), next(getmetatable(_G)) end)
  dovecot.restrict_global_variables(true)
  dovecot.restrict_global_variables(nil)
  probe("anything but true", function() undeclared_no_more = 1 return undeclared_no_more, no_such_thing end)
end

local function requests(req)
  for _, name in ipairs {
    "user", "username", "domain", "domain_first", "domain_last", "service", "protocol", "home", "lip", "rip", "lport",
    "rport", "local_ip", "remote_ip", "local_port", "remote_port", "real_lip", "real_rip", "real_lport", "real_rport",
    "real_local_ip", "real_remote_ip", "real_local_port", "real_remote_port", "session", "password", "mech",
    "mechanism", "secured", "cert", "login_user", "login_username", "login_domain", "master_user", "orig_user",
    "original_user", "orig_username", "orig_domain", "original_username", "original_domain", "auth_user",
    "auth_username", "auth_domain", "local_name", "client_id", "id", "ssl_ja3_hash", "owner_user", "session_pid",
    "skip_password_check", "passdbs_seen_user_unknown", "passdbs_seen_internal_failure",
    "userdbs_seen_internal_failure", "passdb", "userdb", "nonsense", "log_info", "log_error", "var_expand",
    "password_verify", "event", "response_from_template", "credentials", "debug", "failed",
  } do
    probe("req." .. name, function() return req[name] end)
  end
  probe("pid", function() return type(req.pid), type(req.client_pid) end)
  probe("pairs", function() return without_item(req) end)
  probe("pairs passdb", function() return without_item(req.passdb), without_item(req.userdb) end)
  probe("req type", function() return type(req), type(rawget(req, "item")) ~= "nil" end)
  probe("metatable", function() return type(getmetatable(req)) end)
  probe("passdb.x", function() return req.passdb.x, req.userdb.x end)
  probe("number key", function() return req[5] end)
  probe("nil key", function() return req[nil] end)
  probe("numeric text key", function() return req["5"] end)
  probe("fields' nil key", function() return req.passdb[nil] end)
  probe("fields' item", function() return type(rawget(req.passdb, "item")) ~= "nil" end)
  probe("fields can be set", function() req.passdb.mine = "m" return req.passdb.mine, req.userdb.mine end)
  probe("boolean key", function() return req[true] end)
  probe("own field", function() req.note = "n" return req.note, req.user end)
  probe("shadow user", function() req.user = "other" return req.user, req:var_expand("x %{user}") end)
  req.user = nil
  probe("unshadow", function() return req.user end)
  probe("log returns", function() return (req:log_error("PROBE from log_error")) end)
  probe("log count", function() return (req:log_error()) end)
  probe("log two", function() return (req:log_warning("a", "b")) end)
  probe("log nil", function() return (req:log_error(nil)) end)
  probe("log table", function() return (req:log_warning({})) end)
  probe("log number", function() return (req:log_warning(5)) end)
  probe("log on string", function() return (req.log_error("x", "y")) end)
  probe("log info count", function() return (req:log_info()) end)
  probe("expand count", function() return (req:var_expand()) end)
  probe("expand table", function() return (req:var_expand({})) end)
  probe("expand plain", function() return (req:var_expand("plain")) end)
  probe("expand empty", function() return (req:var_expand("")) end)
  probe("expand number", function() return (req:var_expand(5)) end)
  probe("expand user", function() return (req:var_expand("%{user}")) end)
  probe("expand unknown", function() return (req:var_expand("%{nosuch}")) end)
  probe("expand bad if", function() return (req:var_expand("%{if;a;zz;b;c}")) end)
  if dovecot.gettimeofday then -- 2.3 crashes
    probe("verify count", function() return (req:password_verify("x")) end)
    probe("verify table", function() return (req:password_verify({}, "x")) end)
    probe("verify nil", function() return (req:password_verify(nil, "x")) end)
    probe("verify nil password", function() return (req:password_verify("x", nil)) end)
  end
  for _, stored in ipairs { "x", "{PLAIN}y", "{NOSUCH}x", "{SHA256}zz", "{BLF-CRYPT}x" } do
    probe("verify both " .. stored, function() return req:password_verify(stored, "x") end)
  end
  probe("verify type", function() return math.type(req:password_verify("x", "x")) end)
  probe("verify plain", function() return (req:password_verify("x", "x")) end)
  probe("verify number", function() return (req:password_verify(12, "12")) end)
  probe("verify mismatch", function() return (req:password_verify("x", "y")) end)
  probe("verify suffix", function() return (req:password_verify("{PLAIN.b64}cGFzcw==", "pass")) end)
  probe("verify lower", function() return (req:password_verify("{sha256.hex}" ..
    "d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1", "pass")) end)
  probe("verify crypt", function()
    return (req:password_verify("{SHA512-CRYPT}$6$rounds=1000$abcdefgh$x", "pass")) end)
  probe("verify unknown", function() return (req:password_verify("{NOSUCH}x", "y")) end)
  probe("verify bad base64", function() return (req:password_verify("{SHA256}zz", "y")) end)
  probe("verify bad blowfish", function() return (req:password_verify("{BLF-CRYPT}x", "y")) end)
  probe("verify short", function() return (req:password_verify("{SSHA256.hex}00", "y")) end)
  probe("verify empty", function() return (req:password_verify("", "")) end)
  probe("event count", function() return (req:event(1)) end)
  probe("event type", function() return type(req:event()), getmetatable(req:event()).__name end)
  probe("events differ", function() return req:event() == req:event() end)
end

local function templates(req)
  if req.response_from_template == nil then return end
  probe("template", function()
    local t = req:response_from_template("a=b  c=%u d flag= e=x=y")
    return t.a, t.c, t.d, t.flag, t.e, keys(t)
  end)
  probe("template empty", function() return keys(req:response_from_template("")) end)
  probe("template count", function() return (req:response_from_template()) end)
  probe("template unknown", function() return req:response_from_template("a=%{nosuch}").a end)
end

local function events()
  local e = dovecot.event()
  probe("event keys", function() return (keys(e):gsub("userdata", "table")) end)
  probe("event metatable", function() return keys(getmetatable(e)) end)
  probe("event chain", function() return e:add_str("a", "b") == e, e:set_name("n") == e, e:append_log_prefix("") == e end)
  probe("event parent", function() return type(dovecot.event(e)) end)
  probe("event count", function() return (dovecot.event(e, e)) end)
  probe("an event is no other", function() return dovecot.event() == dovecot.event() end)
  probe("event of a boolean", function() return (dovecot.event(true)) end)
  probe("event nil", function() return (dovecot.event(nil)) end)
  probe("event number", function() return (dovecot.event(5)) end)
  for _, name in ipairs {
    "append_log_prefix", "replace_log_prefix", "set_name", "set_always_log_source", "set_forced_debug",
    "unset_forced_debug", "add_str", "add_int", "add_timeval", "inc_int", "log_debug", "log_info", "log_warning",
    "log_error", "passthrough_event", "nonsense",
  } do
    probe("event." .. name, function() return type(e[name]) end)
  end
  probe("add_str count", function() return (e:add_str("k")) end)
  probe("add_str nil", function() return (e:add_str("k", nil)) end)
  probe("add_str number", function() return e:add_str(1, 2) == e end)
  probe("add_str key", function() return (e:add_str({}, "x")) end)
  probe("add_int text", function() return e:add_int("k", "12") == e end)
  probe("add_int float", function() return e:add_int("k", 2.0) == e end)
  probe("add_int fraction", function() return (e:add_int("k", 1.5)) end)
  probe("add_int word", function() return (e:add_int("k", "x")) end)
  probe("add_int nil", function() return (e:add_int("k", nil)) end)
  probe("inc_int word", function() return (e:inc_int("k", "x")) end)
  probe("inc_int count", function() return (e:inc_int("k", 1, 2)) end)
  probe("add_timeval", function() return e:add_timeval("t", 5) == e end)
  probe("add_timeval word", function() return (e:add_timeval("t", {})) end)
  probe("set_name nil", function() return (e:set_name(nil)) end)
  probe("set_name count", function() return (e:set_name()) end)
  probe("log count", function() return (e:log_info()) end)
  probe("log too many", function() return (e:log_debug("a", "b")) end)
  probe("log number", function() return e:log_warning(5) == e end)
  probe("add_timeval count", function() return (e:add_timeval("t")) end)
  probe("add_timeval fraction", function() return (e:add_timeval("t", 1.5)) end)
  probe("add_int count", function() return (e:add_int("k")) end)
  probe("inc_int key", function() return (e:inc_int(nil, 1)) end)
  probe("log nil", function() return (e:log_warning(nil)) end)
  probe("log table", function() return (e:log_error({})) end)
  probe("prefix count", function() return (e:append_log_prefix()) end)
  probe("prefix nil", function() return (e:replace_log_prefix(nil)) end)
  probe("source count", function() return (e:set_always_log_source(1)) end)
  probe("on string", function() return (e.log_info("x", "y")) end)
  probe("passthrough", function()
    local p = e:passthrough_event()
    local name = getmetatable(p).__name
    local same = p:add_str("k", "v") == p
    p:log_info("PROBE passthrough line")
    return name, same
  end)
  probe("passthrough members", function()
    local p, list = e:passthrough_event(), {}
    for _, name in ipairs {
      "append_log_prefix", "replace_log_prefix", "set_name", "set_always_log_source", "set_forced_debug",
      "unset_forced_debug", "add_str", "add_int", "add_timeval", "inc_int", "log_debug", "log_info", "log_warning",
      "log_error", "passthrough_event",
    } do
      list[#list + 1] = name .. " " .. type(p[name])
    end
    p:append_log_prefix("PROBE once: "):log_warning("all of them")
    return table.concat(list, ", ")
  end)
  probe("passthrough count", function() return (e:passthrough_event(1)) end)
  local root = dovecot.event():append_log_prefix("PROBE root: ")
  local child = dovecot.event(root):append_log_prefix("child: ")
  child:log_info("one")
  root:append_log_prefix("PROBE new root: ")
  child:log_info("two")
  child:replace_log_prefix("PROBE replaced: "):log_info("three")
  dovecot.event(child):append_log_prefix("below: "):log_info("four")
  child:append_log_prefix("again: "):log_info("five")
  dovecot.event():log_info("PROBE lone event")
end

local function tools()
  if not dovecot.gettimeofday then return end
  probe("gettimeofday", function() return keys(dovecot.gettimeofday()) end)
  probe("nanoseconds", function() return math.type(dovecot.nanoseconds()), math.type(dovecot.microseconds()) end)
  for _, address in ipairs {
    "192.0.2.1", "::1", "x", "", "1.2.3", "1", "1.2.3.4.5", "[::1]", "::ffff:1.2.3.4", "fe80::1%eth0", "256.1.1.1",
    " 1.2.3.4", "1.2.3.4 ", "0x7f.1", "010.1.1.1", "[::1", ":", "::g",
  } do
    probe("net_ip_family '" .. address .. "'", function() return (dovecot.net_ip_family(address)) end)
  end
  for _, text in ipairs { "", "a", "a\tb\nc\rd\001e", "a\0b", "\0010x", "\t", "a\t\tb\t", "\0011", "x\001", "\001t\001n\001r\001z", "a\001tb\tc" } do
    probe("tabescape", function() return (dovecot.tabescape(text):gsub("\001", "^")) end)
    probe("tabunescape", function() return (dovecot.tabunescape(text):gsub("%c", "^")) end)
    probe("split_tabescaped", function()
      local list = dovecot.split_tabescaped(text)
      for i = 1, #list do list[i] = list[i]:gsub("%c", "^") end
      return #list, table.concat(list, "/")
    end)
  end
  probe("net_ip_family count", function() return (dovecot.net_ip_family()) end)
  probe("net_ip_family number", function() return (dovecot.net_ip_family(5)) end)
  probe("tabescape nil", function() return (dovecot.tabescape(nil)) end)
  probe("tabescape count", function() return (dovecot.tabescape("a", "b")) end)
  probe("nanoseconds count", function() return type(dovecot.nanoseconds(1)) end)
  probe("gettimeofday count", function() return type(dovecot.gettimeofday(1)) end)
  probe("dict", function() return keys(dovecot.dict), math.type(dovecot.dict.ITERATE_FLAG_RECURSE) end)
  probe("doveadm_client", function()
    return keys(dovecot.doveadm_client), dovecot.doveadm_client.DOVEADM_PROXY_TTL
  end)
end

local function lua()
  probe("yield", function() return coroutine.yield(1) end)
  probe("running", function() local _, main = coroutine.running() return main end)
  probe("isyieldable", function() return coroutine.isyieldable() end)
  probe("wrap error", function() return (coroutine.wrap(function() error("inside", 0) end)()) end)
  probe("wrap object", function() return (coroutine.wrap(function() error({}) end)()) end)
  probe("wrap dead", function()
    local f = coroutine.wrap(function() return 1 end)
    f()
    return (f())
  end)
  probe("resume dead", function()
    local c = coroutine.create(function() end)
    coroutine.resume(c)
    return coroutine.resume(c)
  end)
  probe("status", function() return coroutine.status((coroutine.running())) end)
  probe("package.path", function() return package.path end)
  probe("package.cpath", function() return package.cpath end)
  probe("arguments", function(...) return select("#", ...) end, nil, nil)
  for _, name in ipairs { "coroutine", "debug", "io", "math", "os", "package", "string", "table", "utf8" } do
    probe("library " .. name, function() return keys(_G[name]), package.loaded[name] == _G[name] end)
  end
  probe("in a coroutine", function()
    local co = coroutine.wrap(function()
      dovecot.event():log_info("PROBE event in a coroutine")
      coroutine.yield(dovecot.set_flag(1, 2))
      return "end"
    end)
    return co(), co()
  end)
end

function auth_passdb_lookup(...)
  local req = ...
  probe("number of arguments", function(...) return select("#", ...) end, ...)
  lua()
  the_table(req)
  requests(req)
  templates(req)
  events()
  tools()
  globals()
  dovecot.i_info("PROBE end")
  return 1, { password = "pass" }
end

function auth_userdb_lookup(req)
  for _, name in ipairs { "user", "password", "mech", "mechanism", "session", "service", "protocol", "rip", "remote_ip" } do
    probe("userdb req." .. name, function() return req[name] end)
  end
  probe("userdb field", function() return req.passdb.x, req.userdb.x end)
  templates(req)
  dovecot.i_info("PROBE end")
  return 1, {}
end
