-- Dovecot's own HTTP client, and JSON.
local json = require("cjson")
local client = dovecot.http.client({ request_timeout_msecs = 10000 })

function auth_password_verify(req, pass)
  local request = client:request({ url = "BACKEND/api/login", method = "POST" })
  request:add_header("Content-Type", "application/json")
  request:set_payload(json.encode({ username = req.user, password = pass, service = req.service }))
  local response = request:submit()
  if response:status() == 401 then
    return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, "wrong password"
  elseif response:status() == 404 then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
  elseif response:status() ~= 200 then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "service says " .. response:status()
  end
  local answer = json.decode(response:payload())
  return dovecot.auth.PASSDB_RESULT_OK, { user = answer.mailbox, class = answer.class }
end
