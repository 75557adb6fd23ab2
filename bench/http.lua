-- The same wait behind HTTP, with Dovecot's own client; the port comes in the place of PORT.
local client = dovecot.http.client({ request_timeout_msecs = 10000 })

function auth_passdb_lookup(req)
  local request = client:request({ url = "http://127.0.0.1:PORT/" .. req.user, method = "GET" })
  local response = request:submit()
  if response:status() ~= 200 then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "status " .. response:status()
  end
  return dovecot.auth.PASSDB_RESULT_OK, { password = response:payload() }
end

function auth_userdb_lookup(req)
  return dovecot.auth.USERDB_RESULT_OK, {}
end
