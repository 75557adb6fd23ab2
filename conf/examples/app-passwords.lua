-- Passwords for apps, and a second factor for people.
--
-- The password a person knows is good for webmail only, and only with a code from their authenticator app typed right
-- behind it ("wonderland123456"), or a recovery code in the place of that. Every program of theirs has a password of
-- its own, which is good for some services, from some networks, until some day, and for nothing else.
--
-- Beside this script:
--   people         alice;{SCHEME}hash of the password;secret of the app;hashes of recovery codes, parted by commas
--   app-passwords  alice;services;networks;last day;{SCHEME}hash;what it is for
-- `*` are all services or all networks, and any day. Networks are those of allow_nets, with commas between. Hashes are
-- made by `authlua pw`; an app password is best a long random one (`openssl rand -base64 18`), for which a quick hash such
-- as SSHA512 will do. enrol.lua makes the secret and the recovery codes.
--
-- Needs authlua: Dovecot has no dovecot.otp. Members of a request have one name in 2.3 and another in 2.4, hence the `or`s.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local WEBMAIL = { ["127.0.0.1"] = true, ["::1"] = true } -- where webmail's logins come from

local otp = dovecot.otp
local OK, WRONG = dovecot.auth.PASSDB_RESULT_OK, dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH
local UNKNOWN = dovecot.auth.PASSDB_RESULT_USER_UNKNOWN

-- All lines of a file that are about this user, each as a list of its fields. A file that cannot be read is an error,
-- which is a temporary failure: it says nothing about the user.
local function lines_about(user, name)
  local found = {}
  for line in assert(io.open(here .. name)):lines() do
    local fields = {}
    for field in (line .. ";"):gmatch("([^;]*);") do
      fields[#fields + 1] = field
    end
    if fields[1] == user then
      found[#found + 1] = fields
    end
  end
  return found
end

local function listed(wanted, list)
  for one in list:gmatch("[^,]+") do
    if one == wanted or one == "*" then
      return true
    end
  end
  return false
end

-- The password of a program. The server itself looks at the networks: that is what allow_nets is for.
local function app_password(request, password)
  for _, fields in ipairs(lines_about(request.user, "app-passwords")) do
    local _, services, networks, last_day, stored, purpose = table.unpack(fields)
    local in_time = last_day == "*" or os.date("!%Y-%m-%d") <= last_day
    if in_time and listed(request.service or request.protocol, services) and request:password_verify(stored, password) == 1 then
      request:log_info("app password: " .. purpose)
      return OK, { allow_nets = networks ~= "*" and networks or nil }
    end
  end
end

-- Write the file of people anew without that hash; nobody ever sees half of it. What cannot be written is an error.
local function spend(user, hash)
  local name = here .. "people"
  local new = assert(io.open(name .. ".new", "w"))
  for line in assert(io.open(name)):lines() do
    if line:find(user .. ";", 1, true) == 1 then
      line = line:gsub(hash .. ",?", "")
    end
    assert(new:write(line, "\n"))
  end
  assert(new:close())
  assert(os.rename(name .. ".new", name))
end

-- A person at webmail: what they know, and then what they have. The password comes first, so that nobody uses up codes
-- who does not know it.
local function person(request, password, known)
  local _, stored, secret, recovery_hashes = table.unpack(known)
  local typed, code = otp.split(password)
  if typed and request:password_verify(stored, typed) == 1 then
    local step, why = otp.totp(secret, code)
    if not step then
      return WRONG, "code " .. why
    end
    return OK, {}
  end
  typed, code = password:match("^(.*)%s(%w+%-%w+%-%w+%-%w+)$")
  if typed and request:password_verify(stored, typed) == 1 then
    local hashes = {}
    for hash in recovery_hashes:gmatch("[^,]+") do
      hashes[#hashes + 1] = hash
    end
    local place, why = otp.recovery(code, hashes)
    if not place then
      return WRONG, "recovery code " .. why
    end
    -- the server remembers it for a day; to be good once and never again, its hash has to go from where it is kept
    spend(request.user, hashes[place])
    request:log_warning("a recovery code was used; " .. #hashes - 1 .. " are left")
    return OK, {}
  end
  return WRONG, "wrong password, or no code behind it"
end

function auth_password_verify(request, password)
  local known = lines_about(request.user, "people")[1]
  if not known then
    return UNKNOWN, "no such user"
  end
  local result, fields = app_password(request, password)
  if result then
    return result, fields
  elseif WEBMAIL[request.rip or request.remote_ip or ""] then
    return person(request, password, known)
  end
  return WRONG, "no app password for this"
end

function auth_userdb_lookup(request)
  if lines_about(request.user, "people")[1] then
    return dovecot.auth.USERDB_RESULT_OK, { uid = "vmail", gid = "vmail", home = "/srv/mail/" .. request.user }
  end
  return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
end
