-- Users whose logins take turns. Runs unchanged in Dovecot 2.3, Dovecot 2.4 and authlua.
-- In an outage (the file of that name is there) it answers nothing.

local PASSWORD = "{PLAIN}wonderland-7301"
local DOMAIN = "@example.org"
local HERE = debug.getinfo(1, "S").source:match("^@(.*/)")

local P = dovecot.auth

local function read(name)
  local file = io.open(HERE .. name)
  if file == nil then return nil end
  local text = file:read("a")
  file:close()
  return text
end

local users = { "alice", "bob", "front", "desk" }

local function is_known(name)
  for _, user in ipairs(users) do
    if name == user .. DOMAIN then return true end
  end
  return false
end

function auth_passdb_lookup(req)
  if read("outage") then return P.PASSDB_RESULT_INTERNAL_FAILURE, "the database is down" end
  if not is_known(req.user) then return P.PASSDB_RESULT_USER_UNKNOWN, "no such user" end
  local fields = { password = PASSWORD }
  local front = read("front-port")
  if front and req:var_expand("%{local_port}") == front then
    fields.proxy, fields.host, fields.port = "y", "127.0.0.1", read("back-port")
    -- the same mail under another name
    if req.user == "front" .. DOMAIN then fields.destuser = "alice" .. DOMAIN end
  end
  return P.PASSDB_RESULT_OK, fields
end

function auth_passdb_get_cache_key() return "%{user}%{local_port}" end

function auth_userdb_lookup(req)
  if read("outage") then return P.USERDB_RESULT_INTERNAL_FAILURE, "the database is down" end
  if not is_known(req.user) then return P.USERDB_RESULT_USER_UNKNOWN, "no such user" end
  return P.USERDB_RESULT_OK, { uid = 5000, gid = 5000, home = HERE .. "mail/" .. req.user }
end

function auth_userdb_get_cache_key() return "%{user}" end
