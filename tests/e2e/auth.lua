-- The users of the end-to-end tests. Runs unchanged in Dovecot 2.3, Dovecot 2.4 and authlua.
-- Who a user is says what happens to it; all share one password.

local PASSWORD = "{PLAIN}wonderland-7301"
local DOMAIN = "@example.org"
local HERE = debug.getinfo(1, "S").source:match("^@(.*/)")

local P = dovecot.auth

local refusals = {
  ["disabled" .. DOMAIN] = { P.PASSDB_RESULT_USER_DISABLED, "disabled" },
  ["expired" .. DOMAIN] = { P.PASSDB_RESULT_PASS_EXPIRED, "expired" },
  ["broken" .. DOMAIN] = { P.PASSDB_RESULT_INTERNAL_FAILURE, "the database is down" },
}

local users = {
  ["alice" .. DOMAIN] = {},
  ["bob" .. DOMAIN] = {},
  -- the account moved: the login goes on under the new name
  ["alias" .. DOMAIN] = { user = "alice" .. DOMAIN },
  -- the password is right, yet nobody gets in
  ["closed" .. DOMAIN] = { nologin = "y", reason = "The office is closed" },
  -- whoever the TLS certificate names needs no password
  ["certified" .. DOMAIN] = { nopassword = "y" },
  -- the password is right, the userdb fails afterwards
  ["halfway" .. DOMAIN] = {},
}

function auth_passdb_lookup(req)
  req:log_info("looking for " .. req.user)
  if req.user == "raises" .. DOMAIN then error("a bug in the script") end
  local refusal = refusals[req.user]
  if refusal ~= nil then return refusal[1], refusal[2] end
  local extra = users[req.user]
  if extra == nil then return P.PASSDB_RESULT_USER_UNKNOWN, "no such user" end
  local fields = {}
  if extra.nopassword == nil then fields.password = PASSWORD end
  if req.mech == "OTP" then fields.password = assert(io.open(HERE .. "otp")):read("*a") end
  for key, value in pairs(extra) do fields[key] = value end
  return P.PASSDB_RESULT_OK, fields
end

-- Only authlua calls this: it keeps what the next one-time password is to be compared with.
function auth_passdb_set_credentials(req, stored)
  local file = assert(io.open(HERE .. "otp", "w"))
  assert(file:write(stored))
  assert(file:close())
  return P.PASSDB_RESULT_OK
end

function auth_userdb_lookup(req)
  if req.user == "raises" .. DOMAIN then error("a bug in the script") end
  if req.user == "broken" .. DOMAIN or req.user == "halfway" .. DOMAIN then
    return P.USERDB_RESULT_INTERNAL_FAILURE, "the database is down"
  end
  if users[req.user] == nil and req.user ~= "disabled" .. DOMAIN then
    return P.USERDB_RESULT_USER_UNKNOWN, "no such user"
  end
  return P.USERDB_RESULT_OK, { uid = 5000, gid = 5000, home = HERE .. "mail/" .. req.user }
end

function auth_userdb_iterate()
  return { "alice" .. DOMAIN, "bob" .. DOMAIN }
end
