-- A million users, one after the other.
function auth_userdb_iterate()
  local n = 0
  return function()
    n = n + 1
    if n <= 1000000 then return "user" .. n .. "@example.com" end
  end
end

function auth_userdb_lookup(req)
  return dovecot.auth.USERDB_RESULT_OK, { uid = "5000", gid = "5000" }
end
