-- The script behind the conformance kit, the same for Dovecot 2.3, Dovecot 2.4 and authlua.
--
-- A user's name says what becomes of it, so that thousands of cases need no restart: PASSDB_USERDB@domain, each of
-- both CODE-SECOND.WORD.WORD, where CODE and SECOND are what the function returns and the words are fields below.
--
--   ok-t.nodelay.nologin_unk-s@x    the passdb finds the user, with two fields; the userdb does not
--
-- Where several passdbs or userdbs are asked, theirs are separated by "=". The right password is "pass".
-- What makes a Dovecot crash is not here.

local auth = dovecot.auth

-- VERIFY: judge passwords here. ROLE: this database's place, 1 or 2, or "master". Set by whoever loads this.

local codes = {
  passdb = {
    ok = auth.PASSDB_RESULT_OK,
    mis = auth.PASSDB_RESULT_PASSWORD_MISMATCH,
    int = auth.PASSDB_RESULT_INTERNAL_FAILURE,
    sch = auth.PASSDB_RESULT_SCHEME_NOT_AVAILABLE,
    unk = auth.PASSDB_RESULT_USER_UNKNOWN,
    dis = auth.PASSDB_RESULT_USER_DISABLED,
    exp = auth.PASSDB_RESULT_PASS_EXPIRED,
    nxt = auth.PASSDB_RESULT_NEXT,
    half = 0.5,
    huge = 1e300,
  },
  userdb = {
    ok = auth.USERDB_RESULT_OK,
    int = auth.USERDB_RESULT_INTERNAL_FAILURE,
    unk = auth.USERDB_RESULT_USER_UNKNOWN,
  },
}
for _, kind in pairs(codes) do
  kind.one = "1"
  kind.text = "yes"
  kind.yes = true
  kind.tab = {}
end

-- A line here is one field, or some that belong together: its word, a group of which only one may be used at a time
-- (the order of a table's fields is nobody's to tell), then keys and values.
local fields = {}

-- fields of the passdb
fields.passdb = {
  pwno = { "password" },
  pwbare = { "password", "password", "pass" },
  pwplain = { "password", "password", "{plain}pass" },
  pwhex = { "password", "password", "{PLAIN.HEX}70617373" },
  pwb64 = { "password", "password", "{PLAIN.b64}cGFzcw==" },
  pwbadb64 = { "password", "password", "{PLAIN.b64}!!" },
  pwwrong = { "password", "password", "{PLAIN}other" },
  pwscheme = { "password", "password", "{PLAIN}" },
  pwempty = { "password", "password", "" },
  pwnumber = { "password", "password", 1234 },
  pwbool = { "password", "password", true },
  pwunknown = { "password", "password", "{NOSUCH}pass" },
  pwnobrace = { "password", "password", "{PLAINpass" },
  pwemptyscheme = { "password", "password", "{}pass" },
  pwnoscheme = { "password", "password_noscheme", "pass" },
  pwnoscheme2 = { "password", "password_noscheme", "{PLAIN}pass" },
  nopw = { "password", "nopassword", "y" },
  nopwfalse = { "password", "nopassword", false },
  nopwempty = { "password", "nopassword", "" },
  nopwpass = { "password", "nopassword", "y", "password", "pass" },
  noauth = { "password", "noauthenticate", "y" },
  noauthpass = { "password", "noauthenticate", "y", "password", "pass" },
  ssha = { "password", "password", "{SSHA}G4TatJDkOo+JkL9HQnoREFtkLOFpVh4B" },
  ssha256 = { "password", "password", "{SSHA256}BV83d+OZwLRq9ORDxOAqAkTDVm51ysVUxbFcJHOE+eQDUr7l" },
  ssha512 = { "password", "password",
    "{SSHA512}XSMgBXofUcc5e3786MaMajsG0RAgFwfrlXRrVtIEJQXFY8GjYYDY6vqMSbJJPzLb0vEFopi/s6EgunnjL8zFYh6ABWI=" },
  sha = { "password", "password", "{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ=" },
  sha256 = { "password", "password", "{SHA256}10/w7o2juYBrGMh32/KbveULW9jk2tejpyUAD+uC6PE=" },
  sha256short = { "password", "password", "{SHA256}10/w7o2juYBrGMh32" },
  sha256bad = { "password", "password", "{SHA256}!" },
  smd5 = { "password", "password", "{SMD5}5iJdMrvlkBHBa0sPwWzEkSKTXTA=" },
  smd5short = { "password", "password", "{SMD5}5iJdMg==" },
  ldapmd5 = { "password", "password", "{LDAP-MD5}Gh3JHJBzJcaScd3wyUS8cg==" },
  plainmd5 = { "password", "password", "{PLAIN-MD5}1a1dc91c907325c69271ddf0c944bc72" },
  md5crypt = { "password", "password", "{MD5-CRYPT}$1$DbXiS.34$lB/Ugc1F1sy0RvFJFWHz6." },
  md5bare = { "password", "password", "$1$DbXiS.34$lB/Ugc1F1sy0RvFJFWHz6." },
  crammd5 = { "password", "password", "{CRAM-MD5}ff5d74b19e3cb9b2b9f4fcb548fe023aeb44f67f231a5a89714d08b5fec22b78" },
  digestmd5 = { "password", "password", "{DIGEST-MD5}473e9552ae3da54287103a68f1151999" },
  scram256 = { "password", "password",
    "{SCRAM-SHA-256}4096,/DGI/TQQSZ3b1RyquTYSZQ==,Muz/vqgwiFfzdkBL1GZIKEX1hRypZ4cFq62oeW85+Js=,"
      .. "mljug432SNgXE9Q+0Eys2tcSdVBATVfQwM1lpSa3280=" },
  scrambad = { "password", "password", "{SCRAM-SHA-256}4096,x" },
  plaintrunc = { "password", "password", "{PLAIN-TRUNC}4-pas" },
  pbkdf2 = { "password", "password",
    "{PBKDF2}$1$fEBHuSUXYqGPdOoe$5000$0e5d337fd4aa1064890723270998fff54186f79b" },
  pbkdf2bad = { "password", "password", "{PBKDF2}$1$fEBH" },
  sha512crypt = { "password", "password",
    "{SHA512-CRYPT}$6$fjauZ8fJD1d1HeWi$"
      .. "CDFRnIRmW.XyFvK0W6E6qCsOAqJ0057x9rLUmUbFvRcLB5mpqUe0rZoxpdLJZoJyIFCFaENRl6af3Jg2kwO6K0" },
  crypt = { "password", "password", "{CRYPT}$5$jtazvGLcpRl3I/vL$yFgCuBrAZTLGvq56TuXLBmn4VNMSRgrjcvwu0WNklJ5" },
  cryptbad = { "password", "password", "{CRYPT}x" },
  blfcrypt = { "password", "password",
    "{BLF-CRYPT}$2y$05$z6dIDfEUftg4.vy/wFqeK.GemixXhUwtEHUADmdL7cnswBvs9T8Mi" },
  blfbad = { "password", "password", "{BLF-CRYPT}$2y$05$short" },
  argonbad = { "password", "password", "{ARGON2ID}$argon2id$v=19$m=65536" },

  nodelay = { "nodelay", "nodelay", "y" },
  nodelayno = { "nodelay", "nodelay", false },
  nologin = { "nologin", "nologin", "y" },
  nologinempty = { "nologin", "nologin", "" },
  nologinfalse = { "nologin", "nologin", false },
  reason = { "reason", "reason", "Closed for today" },
  code = { "code", "code", "user_disabled" },
  resp = { "resp", "resp", "AAAA" },
  fail = { "fail", "fail", "y" },
  failno = { "fail", "fail", false },
  nets = { "nets", "allow_nets", "127.0.0.0/8" },
  netsother = { "nets", "allow_nets", "10.1.0.0/16,10.2.3.4, ::1/128" },
  netslocal = { "nets", "allow_nets", "local" },
  netsbad = { "nets", "allow_nets", "nonsense,127.0.0.1" },
  netsempty = { "nets", "allow_nets", "" },
  realnets = { "realnets", "allow_real_nets", "10.0.0.0/8 fe80::/10" },
  delaypast = { "delay", "delay_until", "1" },
  delayrandom = { "delay", "delay_until", "1+5" },
  delayfar = { "delay", "delay_until", "4000000000" },
  delaytext = { "delay", "delay_until", "soon" },
  delayodd = { "delay", "delay_until", "1+x" },
  delayempty = { "delay", "delay_until", "" },

  proxy = { "proxy", "proxy", "y", "host", "192.0.2.7" },
  proxytrue = { "proxy", "proxy", true, "host", "192.0.2.7", "port", "1143", "destuser", "other" },
  proxyv6 = { "proxy", "proxy", "", "host", "2001:db8::7", "pass", "secret", "master", "m" },
  proxynohost = { "proxy", "proxy", "y" },
  proxyhostip = { "proxy", "proxy", "y", "host", "mail.example", "hostip", "192.0.2.8" },
  proxymaybe = { "proxy", "proxy_maybe", "y", "host", "127.0.0.1", "port", "143" },
  proxymaybeother = { "proxy", "proxy_maybe", "y", "host", "192.0.2.9" },
  proxyalways = { "proxy", "proxy_maybe", "y", "proxy_always", "y", "host", "127.0.0.1" },
  host = { "proxy", "host", "192.0.2.7" },
  starttls = { "starttls", "starttls", "any-cert" },
  pass = { "pass", "pass", "other" },
  master = { "master", "master", "boss" },
  forward = { "forward", "forward_z", "b c" },
  event = { "event", "event_x", "y" },

  user = { "name", "user", "ok-t.s_ok-t.home@changed" },
  userempty = { "name", "user", "" },
  usersame = { "name", "user", "x" },
  userodd = { "name", "user", "Not\tplain@x" },
  username = { "name", "username", "ok-t_ok-t.uid" },
  usernameat = { "name", "username", "ok-t_ok-t.uid@b" },
  usernameempty = { "name", "username", "" },
  domain = { "name", "domain", "other" },
  domainempty = { "name", "domain", "" },
  loginuser = { "name", "login_user", "ok-t_ok-t.home@login" },
  loginuserempty = { "name", "login_user", "" },
  originaluser = { "originaluser", "original_user", "first" },
  authuser = { "authuser", "auth_user", "second" },
  anonymous = { "anonymous", "anonymous", "y" },

  uuid = { "uuid", "userdb_uid", "5000", "userdb_gid", "5000" },
  uhome = { "uhome", "userdb_home", "/srv/prefetch" },
  uempty = { "uempty", "userdb_mail", "" },
  uuser = { "name", "userdb_user", "ok-t_ok-t.s@prefetch" },
  uimport = { "uimport", "userdb_userdb_import", "a=b\tc\td=" },
  utempfail = { "utempfail", "userdb_tempfail", "y" },
  uadd = { "uadd", "userdb_home:remove", "" },
  uprotected = { "uprotected", "userdb_quota:protected", "1" },
  udefault = { "udefault", "userdb_quota:default", "2" },
  import = { "import", "passdb_import", "imported=1\timportedflag\timportedempty=" },
  protected = { "protected", "x:protected", "1" },
  default = { "default", "y:default", "2" },
  remove = { "remove", "z:remove", "" },

  s = { "s", "s", "text" },
  sempty = { "sempty", "sempty", "" },
  sspace = { "sspace", "sspace", " a  b " },
  sodd = { "sodd", "sodd", "a\tb\nc\rd\1e" },
  snul = { "snul", "snul", "a\0b" },
  sutf = { "sutf", "sutf", "gr\195\188n\226\130\172\240\159\144\141" },
  sbytes = { "sbytes", "sbytes", "\255\254\128" },
  sequals = { "sequals", "sequals", "=a=b=" },
  int = { "int", "int", -42 },
  bigint = { "bigint", "bigint", 9007199254740993 },
  float = { "float", "float", 3.0 },
  fraction = { "fraction", "fraction", 1.5 },
  yes = { "yes", "yes", true },
  no = { "no", "no", false },
  keyequals = { "keyequals", "k=v", "w" },
  keyspace = { "keyspace", "k v", "w" },
  keyutf = { "keyutf", "gr\195\188n", "w" },
  keyupper = { "keyupper", "NoLogin", "w" },
  func = { "func", "func", print },
  tab = { "tab", "tab", {} },
  echo = { "echo" },
  expand = { "expand" },
  tell = { "tell" },
}

-- fields of the userdb
fields.userdb = {
  uid = { "uid", "uid", "5000", "gid", "5000" },
  uidint = { "uid", "uid", 5000, "gid", 5000 },
  uidname = { "uid", "uid", "daemon", "gid", "daemon" },
  uidunknown = { "uid", "uid", "nobodyatall" },
  gidunknown = { "uid", "gid", "nobodyatall" },
  uidempty = { "uid", "uid", "" },
  uidbig = { "uid", "uid", "99999999999999999999" },
  uidnegative = { "uid", "uid", "-1" },
  uidgidfile = { "uid", "uidgid_file", "/etc/passwd" },
  uidgidfilegone = { "uid", "uidgid_file", "/no/such/file" },
  home = { "home", "home", "/srv/mail/someone" },
  mail = { "mail", "mail", "maildir:~/Mail" },
  tempfail = { "tempfail", "tempfail", "y" },
  tempfailno = { "tempfail", "tempfail", false },
  tempfailreason = { "tempfail", "tempfail", "y", "reason", "Come\tback" },
  reason = { "reason", "reason", "nothing" },
  user = { "name", "user", "changed@x" },
  userempty = { "name", "user", "" },
  username = { "name", "username", "changed" },
  domain = { "name", "domain", "changed" },
  import = { "import", "userdb_import", "a=b\tc\td=" },
  systemuser = { "systemuser", "system_user", "daemon" },
  systemgroups = { "systemuser", "system_groups_user", "daemon" },
  password = { "password", "password", "visible" },
  masteruser = { "masteruser", "master_user", "m" },
  authmech = { "authmech", "auth_mech", "FOO" },
  authuser = { "authuser", "auth_user", "a" },
  authtoken = { "authtoken", "auth_token", "t" },
  anonymous = { "anonymous", "anonymous", "y" },
  nologin = { "nologin", "nologin", "y" },
  plugin = { "plugin", "plugin/quota", "x y" },
  protected = { "protected", "x:protected", "1" },
  default = { "default", "y:default", "2" },
  remove = { "remove", "z:remove", "" },
  s = { "s", "s", "text" },
  sempty = { "sempty", "sempty", "" },
  sodd = { "sodd", "sodd", "a\tb\nc\rd\1e" },
  snul = { "snul", "snul", "a\0b" },
  sbytes = { "sbytes", "sbytes", "\255\254\128" },
  int = { "int", "int", -42 },
  fraction = { "fraction", "fraction", 1.5 },
  yes = { "yes", "yes", true },
  no = { "no", "no", false },
  keyequals = { "keyequals", "k=v", "w" },
  func = { "func", "func", print },
  echo = { "echo" },
}

local strings = {
  s0 = "",
  s1 = "password=pass",
  s2 = "password=pass nologin reason=x",
  s3 = "  password=pass   a=b  c= d  f=g=h ",
  s4 = "nopassword",
  s5 = "uid=5000 gid=5000 home=/srv",
  s6 = "user=changed@x password=pass a=%u b=%{user}",
  s7 = "some words of why",
  s8 = "password={SSHA256}BV83d+OZwLRq9ORDxOAqAkTDVm51ysVUxbFcJHOE+eQDUr7l nodelay proxy host=192.0.2.7",
  s9 = "tempfail reason=later",
  s10 = "a=1\tb=2 c:remove d:protected=1 e:default=2",
  s11 = "42",
}

local variables = {
  "user", "username", "domain", "domain_first", "domain_last", "service", "protocol", "home",
  "lip", "rip", "lport", "rport", "real_lip", "real_rip", "real_lport", "real_rport",
  "local_ip", "remote_ip", "local_port", "remote_port",
  "real_local_ip", "real_remote_ip", "real_local_port", "real_remote_port",
  "pid", "client_pid", "session", "password", "mech", "mechanism", "secured", "cert",
  "login_user", "login_username", "login_domain", "master_user",
  "orig_user", "orig_username", "orig_domain", "original_user", "original_username", "original_domain",
  "auth_user", "auth_username", "auth_domain", "local_name", "client_id", "id", "ssl_ja3_hash", "owner_user",
  "skip_password_check", "passdbs_seen_user_unknown", "passdbs_seen_internal_failure",
  "userdbs_seen_internal_failure", "nonsense",
}

-- what a script can see of its request
local function echo(request, into)
  for _, name in ipairs(variables) do
    local value = request[name]
    if value ~= nil then
      into["v_" .. name] = tostring(value)
    end
  end
  for _, kind in ipairs({ "passdb", "userdb" }) do
    for _, name in ipairs({ "forward_a", "s", "a", "imported", "home", "user", "nologin", "debug" }) do
      local value = (request[kind] or {})[name]
      if value ~= nil then
        into["v_" .. kind .. "_" .. name] = tostring(value)
      end
    end
  end
end

local templates = {
  "%u|%n|%d|%s", "%{user}|%{service}|%{protocol}", "%Lu %Uu %Hu", "%{nonsense}", "100%%", "%", "%{user", "%{user|upper}",
}

local function expand(request, into)
  for number, template in ipairs(templates) do
    local ok, text = pcall(function()
      return request:var_expand(template)
    end)
    into["x_" .. number] = ok and text or "error"
  end
end

-- a password the script checks itself
local function tell(request, into)
  local hashes = { "pass", "{PLAIN}no", "{NOSUCH}x", "{SHA256}!", "{PLAIN.hex}70617373" }
  for number, hash in ipairs(hashes) do
    local code, text = request:password_verify(hash, "pass")
    into["t_" .. number] = tostring(code) .. " " .. tostring(text)
  end
end

local specials = { echo = echo, expand = expand, tell = tell }

local function make_fields(kind, words, request)
  local result = {}
  if kind == "passdb" then
    result.password = "{PLAIN}pass"
  end
  for word in words:gmatch("[^.]+") do
    local field = fields[kind][word]
    if field and kind == "passdb" and field[1] == "password" then
      result.password = nil
    end
  end
  for word in words:gmatch("[^.]+") do
    local field = fields[kind][word]
    if field then
      for at = 2, #field, 2 do
        result[field[at]] = field[at + 1]
      end
      if specials[word] then
        specials[word](request, result)
      end
    end
  end
  return result
end

-- aliases of the dialogues' users, and anything else that is a plain word
local aliases = {
  passdb = {
    ok = "ok-t", nodelay = "ok-t.nodelay", nologin = "ok-t.nologin.reason", proxy = "ok-t.proxy", chg = "ok-t.chg",
    empty = "ok-t.empty", bare = "ok-t", tf = "ok-t", uint = "ok-t", alone = "ok-t",
    dis = "dis-sreason", exp = "exp-sreason", int = "int-s7", nxt = "nxt-skept",
  },
  userdb = {
    ok = "ok-t.ok", changed = "ok-t.changed", other = "ok-t.other", bare = "ok-t", tf = "ok-t.tf",
    nologin = "ok-t.uid", uint = "int-s7",
  },
}
fields.passdb.chg = { "name", "user", "changed@x" }
fields.passdb.empty = { "empty", "empty", "" }
fields.userdb.ok = { "ok", "uid", "5000", "gid", "5000", "home", "/srv/mail/ok" }
fields.userdb.changed = { "ok", "uid", "5000", "gid", "5000", "home", "/srv/mail/changed" }
fields.userdb.other = { "ok", "uid", "5001", "gid", "5001", "home", "/srv/mail/other" }
fields.userdb.tf = { "tf", "tempfail", "y", "reason", "Come back later" }
strings.sreason = "reason=Not now"
strings.skept = "kept=k"

-- the part of the user's name that is about this database
local function spec_of(kind, name)
  local passdb, userdb = name:match("^([^_@]*)_([^_@]*)")
  local spec = kind == "passdb" and (passdb or name:match("^[^@]*")) or userdb or name:match("^[^@]*")
  if ROLE == 1 then
    spec = spec:match("^[^=]*")
  elseif ROLE == 2 then
    spec = spec:match("=(.*)$") or ""
  end
  return spec
end

local function answer(kind, request)
  local spec = spec_of(kind, request.user)
  local code, second, words = (aliases[kind][spec] or spec):match("^(%w+)-(%w+)%.?(.*)$")
  if code == "err" then
    error("the script fails: " .. second)
  elseif code == "errt" then
    error({})
  elseif code == "void" then
    return
  elseif code == nil or (codes[kind][code] == nil and code ~= "no") then
    return codes[kind].unk, "no such user"
  end
  code = codes[kind][code]
  if second == "t" then
    return code, make_fields(kind, words, request)
  elseif second == "n" then
    return code, nil
  elseif second == "o" then
    return code, {}
  elseif second == "b" then
    return code, true
  elseif second == "i" then
    return code, 42
  elseif second == "f" then
    return code, print
  elseif second == "m" then
    return code, setmetatable({}, { __index = { password = "pass" }, __pairs = error }), "more"
  end
  return code, strings[second] or ""
end

function auth_passdb_lookup(request)
  return answer("passdb", request)
end

if VERIFY then
  -- the code decides; a wrong password is one wherever OK would be right
  function auth_password_verify(request, password)
    if password ~= "pass" and password ~= "other" then
      return auth.PASSDB_RESULT_PASSWORD_MISMATCH, "mismatch"
    end
    return answer("passdb", request)
  end
end

function auth_userdb_lookup(request)
  return answer("userdb", request)
end

function auth_userdb_iterate()
  if VERIFY then
    return { "one", {} }
  elseif ROLE == 1 then
    return { a = "first@x", b = 7, [3.0] = "third" }
  elseif ROLE == 2 then
    return {}
  end
  return { "ok@x", "other@y", "UPPER@y", "tab\there" }
end
