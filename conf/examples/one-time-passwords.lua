-- One-time passwords for the mechanism OTP (RFC 2444): each login uses one up, and the script stores what is left.
--
-- The file otp-users beside this script has a line for each user, `alice {OTP}sha1 499 ke1234 0a1b2c3d4e5f6071`; what
-- stands behind the name is made by `authlua pw -s OTP`. It is written anew at every login, so the user that authlua
-- runs as must be able to write the file's directory.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local users_file = here .. "otp-users"

-- The stored password of a user, or nil. A file that cannot be read is an error, and so a temporary failure.
local function stored_of(user)
  for line in assert(io.open(users_file)):lines() do
    local name, stored = line:match("^(%S+)%s+(.+)$")
    if name == user then
      return stored
    end
  end
end

function auth_passdb_lookup(request)
  local stored = stored_of(request.user)
  if not stored then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
  end
  return dovecot.auth.PASSDB_RESULT_OK, { password = stored }
end

-- Called by authlua when a one-time password was right, with `{OTP}…` that is good from now on. Only when this says OK is
-- the client let in: else the same password would be good again.
function auth_passdb_set_credentials(request, stored)
  local new = assert(io.open(users_file .. ".new", "w"))
  for line in assert(io.open(users_file)):lines() do
    if line:match("^(%S+)") == request.user then
      line = request.user .. " " .. stored
    end
    assert(new:write(line, "\n"))
  end
  assert(new:close())
  assert(os.rename(users_file .. ".new", users_file))
  return dovecot.auth.PASSDB_RESULT_OK
end

function auth_userdb_lookup(request)
  if stored_of(request.user) then
    return dovecot.auth.USERDB_RESULT_OK, { uid = "vmail", gid = "vmail", home = "/srv/mail/" .. request.user }
  end
  return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
end
