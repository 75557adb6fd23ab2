-- Authenticates against a JSON web service over TLS.
local https = require("ssl.https")
local ltn12 = require("ltn12")
local cjson = require("cjson")

local URL = "BACKEND/api/login"

local function post(payload)
  local body = cjson.encode(payload)
  local response = {}
  local _, code = https.request({
    url = URL,
    method = "POST",
    headers = {
      ["Content-Type"] = "application/json",
      ["Content-Length"] = tostring(#body),
    },
    source = ltn12.source.string(body),
    sink = ltn12.sink.table(response),
  })
  return code, table.concat(response)
end

function auth_password_verify(req, pass)
  local code, body = post({ username = req.user, password = pass, service = req.service })
  if code == 401 then
    return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, "wrong password"
  elseif code == 404 then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
  elseif code ~= 200 then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "service says " .. tostring(code)
  end
  local ok, answer = pcall(cjson.decode, body)
  if not ok or answer.error ~= cjson.null then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "what is this: " .. body
  end
  return dovecot.auth.PASSDB_RESULT_OK, { user = answer.mailbox, class = answer.class }
end
