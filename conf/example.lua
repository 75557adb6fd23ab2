-- Users from a passwd file: who may log in (passdb) and where their mail lives (userdb).
--
-- The file is users.passwd beside this script. It is read at every lookup, so a change counts at once.
-- The same script works in authlua and, unchanged, as a Lua database of Dovecot 2.3 and 2.4:
-- an OK comes with a table of fields, any other result with a text.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local users_file = here .. "users.passwd"

-- One line of the file as a table, nil for a comment or an empty line; what is left empty is nil too.
-- Only the first seven colons part fields, as the extra fields may have colons of their own.
local function parse(line)
  if line:match("^%s*#") or not line:find(":", 1, true) then
    return nil
  end
  local field, rest = {}, line
  for i = 1, 7 do
    local colon = rest:find(":", 1, true) or #rest + 1
    if colon > 1 then
      field[i] = rest:sub(1, colon - 1)
    end
    rest = rest:sub(colon + 1)
  end
  return { name = field[1], password = field[2], uid = field[3], gid = field[4], home = field[6], extra = rest }
end

-- The line of one user. No such user: nil. The file cannot be read: nil and the reason.
local function find(name)
  local file, reason = io.open(users_file)
  if not file then
    return nil, reason
  end
  local found
  for line in file:lines() do
    local user = parse(line)
    if user and user.name == name then
      found = user
      break
    end
  end
  file:close()
  return found
end

-- May this user log in? The password is compared with the hash by the server, in the hash's own {SCHEME}.
function auth_passdb_lookup(request)
  local user, reason = find(request.user)
  if reason then
    -- "try again later", which is not the same as "no such user"
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, reason
  elseif not user then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
  elseif not user.password or user.password:match("^!") then
    return dovecot.auth.PASSDB_RESULT_USER_DISABLED, "locked out"
  end

  local fields = { password = user.password }
  for name, value in user.extra:gmatch("([^%s=]+)=?(%S*)") do
    if not name:match("^userdb_") then
      fields[name] = value
    end
  end
  return dovecot.auth.PASSDB_RESULT_OK, fields
end

-- Where does this user's mail live, and as whom is it read and written?
function auth_userdb_lookup(request)
  local user, reason = find(request.user)
  if reason then
    return dovecot.auth.USERDB_RESULT_INTERNAL_FAILURE, reason
  elseif not user then
    return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
  end

  local fields = { uid = user.uid, gid = user.gid, home = user.home }
  for name, value in user.extra:gmatch("([^%s=]+)=?(%S*)") do
    local userdb_name = name:match("^userdb_(.+)")
    if userdb_name then
      fields[userdb_name] = value
    end
  end
  return dovecot.auth.USERDB_RESULT_OK, fields
end

-- All users, for `doveadm user '*'` and whatever goes through every mailbox.
function auth_userdb_iterate()
  local names = {}
  for line in io.lines(users_file) do
    local user = parse(line)
    if user then
      names[#names + 1] = user.name
    end
  end
  return names
end
