-- A web service behind LuaSocket, as scripts for Dovecot ask one; the port comes in the place of PORT.
local http = require("socket.http")

function auth_passdb_lookup(req)
  local body, code = http.request("http://127.0.0.1:PORT/" .. req.user)
  if code ~= 200 then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "status " .. tostring(code)
  end
  return dovecot.auth.PASSDB_RESULT_OK, { password = body }
end

function auth_userdb_lookup(req)
  return dovecot.auth.USERDB_RESULT_OK, {}
end
