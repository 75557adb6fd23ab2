-- A backend that takes 100 ms to answer, behind a library that blocks (Debian: lua-socket).
local socket = require("socket")

function auth_passdb_lookup(req)
  socket.sleep(0.1)
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass" }
end

function auth_userdb_lookup(req)
  return dovecot.auth.USERDB_RESULT_OK, {}
end
