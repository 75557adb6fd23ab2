-- A module in Lua, which may use the rest of the package.
local greetings = {}

function greetings.of(user)
  return "hello, " .. dovecot.example.shout(user)
end

return greetings
