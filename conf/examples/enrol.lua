-- What a new user of app-passwords.lua needs, made fresh each time:
--
--   authlua test-lookup --userdb --script enrol.lua alice
--
-- `uri` goes into a QR code for the app (`qrencode -t UTF8 'otpauth://…'`), `code1` and so on to a piece of paper, and
-- `line` behind the password's hash in the file `people`.

local otp = dovecot.otp

function auth_userdb_lookup(request)
  local secret = otp.secret()
  local codes, stored = otp.recovery_codes(8)
  local fields = {
    uri = otp.uri(secret, { account = request.user, issuer = "Example Mail" }),
    line = secret .. ";" .. table.concat(stored, ","),
  }
  for i, code in ipairs(codes) do
    fields["code" .. i] = code
  end
  return dovecot.auth.USERDB_RESULT_OK, fields
end
