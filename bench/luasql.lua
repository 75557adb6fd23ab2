-- Users behind a statement that takes 100 ms, through LuaSQL; the port comes in the place of PORT.
local con = assert(require("luasql.mysql").mysql():connect("test", "mail", "secret", "127.0.0.1", PORT))

function auth_passdb_lookup(req)
  local cur = assert(con:execute("SELECT SLEEP(0.1)"))
  cur:fetch()
  cur:close()
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass" }
end

function auth_userdb_lookup(req)
  return dovecot.auth.USERDB_RESULT_OK, {}
end
