-- The script most measurements ask: a match on the user's name, three fields, no waiting.
function auth_passdb_lookup(req)
  if req.user:match("^u%d+@x$") then
    return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", userdb_quota = "1G", class = "b" }
  end
  return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
end

function auth_userdb_lookup(req)
  if req.user:match("^u%d+@x$") then
    return dovecot.auth.USERDB_RESULT_OK, { uid = "5000", gid = "5000", home = "/srv/mail/" .. req.user }
  end
  return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
end
