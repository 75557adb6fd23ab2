-- Every code with every second result; a user named "CODE.SECOND" picks one of each. Only what crashes no Dovecot.

local codes = {
  ok = 1, ok_float = 1.0, ok_text = "1", ok_hex = "0x1", ok_spaces = " 1 ", constant = dovecot.auth.PASSDB_RESULT_OK,
  mismatch = 0, fraction = 1.5, fraction_text = "1.5", nan = 0 / 0, huge = 1e300,
  internal = -1, scheme = -2, unknown = -3, disabled = -4, expired = -5, next = -6,
  yes = true, no = false, word = "x", empty = "", table = {}, fn = print,
}

local seconds = {
  text = "some text", empty = "", pairs = "password={PLAIN}pass foo=bar flag", two = "password=pass  x=1 ",
  number = 42, float = 4.5, yes = true, no = false, fn = print, thread = coroutine.create(print),
  none = {}, right = { password = "pass" }, wrong = { password = "other" }, any = { nopassword = "" },
  refused = { nopassword = false },
  values = {
    password = "pass", i = 7, f = 2.0, half = 2.5, big = 2 ^ 53, huge = 1e300, negative = -3, minus = -2.0, yes = true, no = false,
    tab = "a\tb", empty = "", nul = "a\0b", utf = "\195\188", spaces = "a b",
  },
  bad = { password = "pass", fn = print, tbl = {}, th = coroutine.create(print), io = io.stdout },
}

local failures = {
  text = function() error("boom") end,
  bare = function() error("boom", 0) end,
  number = function() error(7) end,
  object = function() error({}) end,
  nothing = function() error() end,
  boolean = function() error(false) end,
  deep = function() local function f(n) if n > 0 then return 1 + f(n - 1) end error("deep") end f(5) end,
  library = function() string.rep() end,
  index = function() local x; return x.y end,
  api = function() dovecot.i_info() end,
  yield = function() coroutine.yield() end,
  last = function() error("the last of all") end,
}

local function answer(req)
  local code, second = req.user:match("^(.-)%.(.*)$")
  if code == "error" then
    return failures[second]()
  elseif code == "none" then
    return
  elseif second == "nothing" then
    return codes[code]
  end
  return codes[code], seconds[second], "a third result"
end

-- userdb codes: only 1, -1 and -2 exist, others crash
local function userdb_answer(req)
  local code, second = req.user:match("^(.-)%.(.*)$")
  if code == "unknown" then
    return -2, seconds[second]
  end
  return answer(req)
end

auth_passdb_lookup = answer
auth_userdb_lookup = userdb_answer
VERIFY = answer

function auth_userdb_iterate()
  return { "one", "two", key = "three", number = 4, float = 5.0, half = 0.5, [10] = "ten" }
end
