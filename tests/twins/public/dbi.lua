-- Users in PostgreSQL, with a prepared statement.
local DBI = require("DBI")
local dbh = assert(DBI.Connect("PostgreSQL", "postgres", "mail", "secret", "127.0.0.1", PORT))
dbh:autocommit(true)

function auth_passdb_lookup(req)
  local sth, problem = dbh:prepare("SELECT password, quota FROM users WHERE name = ? AND active = ?")
  if not sth then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, problem
  end
  sth:execute(req.user, true)
  local row = sth:fetch(true)
  sth:close()
  if not row then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
  end
  return dovecot.auth.PASSDB_RESULT_OK, { password = row.password, userdb_quota_rule = row.quota and "*:storage=" .. row.quota }
end
