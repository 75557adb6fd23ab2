-- Users in MySQL, as many a howto has it: one connection, opened when it is first needed.
driver = require "luasql.mysql"
env = driver.mysql()
con = nil

local function connect()
  if con == nil then
    con, err = env:connect("test", "mail", "secret", "127.0.0.1", PORT)
  end
  return con
end

function auth_passdb_lookup(req)
  if not connect() then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, err
  end
  cur, err = con:execute(string.format("SELECT password, quota FROM users WHERE name = '%s'", con:escape(req.user)))
  if not cur then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, err
  end
  row = cur:fetch({}, "a")
  cur:close()
  if row == nil then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
  end
  return dovecot.auth.PASSDB_RESULT_OK, { password = row.password, userdb_quota_rule = row.quota and "*:storage=" .. row.quota }
end
