-- Tests of example.lua: authlua test-script conf/example_test.lua
--
-- Each global function whose name begins with test_ is a test, run in a Lua state of its own. Beside what scripts have
-- there are `script`, `request`, `passdb_lookup`, `password_verify`, `userdb_lookup`, `userdb_iterate`, `equal` and
-- `fails`; authlua(8) explains them.

script "example.lua"

function test_a_user_has_a_password_and_a_home()
  local result, fields = passdb_lookup { user = "alice" }
  equal("OK", result)
  assert(fields.password:find("^{"), "a stored password names its scheme")

  local found, home = userdb_lookup { user = "alice" }
  equal("OK", found)
  assert(home.home and home.uid, "mail needs a place and an owner")
end

function test_nobody_else_is_let_in()
  equal("USER_UNKNOWN", (passdb_lookup { user = "mallory" }))
  equal("USER_UNKNOWN", (userdb_lookup { user = "mallory" }))
end

function test_all_users_are_listed()
  local names = {}
  for _, name in ipairs(userdb_iterate()) do
    names[name] = true
  end
  assert(names.alice)
  assert(not names.mallory)
end
