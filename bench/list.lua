-- A million users in one table, as Dovecot wants them.
function auth_userdb_iterate()
  local users = {}
  for n = 1, 1000000 do users[n] = "user" .. n .. "@example.com" end
  return users
end

function auth_userdb_lookup(req)
  return dovecot.auth.USERDB_RESULT_OK, { uid = "5000", gid = "5000" }
end
