-- Does whatever the user's name says; all others log in.
local function eat()
  local t = {}
  while true do t[#t + 1] = ("x"):rep(100000) .. #t end
end

local acts = {
  loop = function() while true do end end,
  eat = eat,
  exit = function() os.exit(1) end,
  crash = function() require "crash" end,
}

function auth_passdb_lookup(req)
  local act = acts[req.user]
  if act then act() end
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass" }
end

function auth_userdb_lookup(req)
  return dovecot.auth.USERDB_RESULT_OK, { uid = "5000", gid = "5000" }
end
