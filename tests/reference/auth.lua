-- The script behind the dialogues: passdb, userdb and list of users, the same for Dovecot 2.3, Dovecot 2.4 and authlua.
-- A table goes with OK and a string with everything else, the one shape all of them take.
-- A user's name says what becomes of it; the domain does not matter. The password is always "pass".

local auth = dovecot.auth

local passdb = {
  ok = {},
  -- what the reply to the client says
  nodelay = { nodelay = "y" },
  nologin = { nologin = "y", reason = "Closed for today" },
  proxy = { proxy = "y", host = "192.0.2.7" },
  chg = { user = "changed@x" },
  empty = { empty = "" },
  -- known to the passdb, odd in the userdb
  bare = {},
  tf = {},
  uint = {},
  alone = {},
}

local refusals = {
  dis = { auth.PASSDB_RESULT_USER_DISABLED, "reason=Not now" },
  exp = { auth.PASSDB_RESULT_PASS_EXPIRED, "reason=Too old" },
  int = { auth.PASSDB_RESULT_INTERNAL_FAILURE, "the database is down" },
  nxt = { auth.PASSDB_RESULT_NEXT, "kept=k" },
}

local userdb = {
  ok = { uid = "5000", gid = "5000", home = "/srv/mail/ok" },
  changed = { uid = "5000", gid = "5000", home = "/srv/mail/changed" },
  other = { uid = "5001", gid = "5001", home = "/srv/mail/other" },
  bare = {},
  tf = { tempfail = "y", reason = "Come back later" },
  nologin = { uid = "5000", gid = "5000" },
}

local function part_before_at(name)
  return (name:gsub("@.*", ""))
end

local function copy(fields)
  local result = {}
  for name, value in pairs(fields) do
    result[name] = value
  end
  return result
end

function auth_passdb_lookup(request)
  local name = part_before_at(request.user)
  if refusals[name] then
    return refusals[name][1], refusals[name][2]
  end
  if not passdb[name] then
    return auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
  end
  local fields = copy(passdb[name])
  fields.password = "{PLAIN}pass"
  return auth.PASSDB_RESULT_OK, fields
end

function auth_userdb_lookup(request)
  local name = part_before_at(request.user)
  if name == "uint" then
    return auth.USERDB_RESULT_INTERNAL_FAILURE, "the database is down"
  end
  if not userdb[name] then
    return auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
  end
  return auth.USERDB_RESULT_OK, copy(userdb[name])
end

function auth_userdb_iterate()
  return { "ok@x", "other@y", "UPPER@y", "tab\there" }
end
