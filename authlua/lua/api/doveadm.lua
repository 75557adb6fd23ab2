-- dovecot.doveadm{…}: runs commands of Dovecot's doveadm service.

local core = ...
local expect, integer_argument = core.expect, core.integer
local error, type, next, select, tostring = error, type, next, select, tostring
local unpack = table.unpack or unpack

local PROXY_TTL = 5

local function table_argument(value, position, name)
  if type(value) ~= "table" then
    error("bad argument #" .. position .. " to '" .. name .. "' (table expected, got " .. type(value) .. ")", 3)
  end
  return value
end

-- A string, a number's text, or nil.
local function word(value)
  local kind = type(value)
  return (kind == "string" or kind == "number") and tostring(value) or nil
end

local own

local function cmd(...)
  local count, self, command, settings = select("#", ...), ...
  expect(count, 2, 3)
  local client = own(self)
  table_argument(command, 1, "cmd")
  local words, length = {}, 0
  for _, value in next, command do
    length = length + 1
    words[length] = word(value)
    if not words[length] then
      error("Invalid command line parameter: Table value has invalid type: " .. type(value), 0)
    end
  end
  local proxy_ttl, last = PROXY_TTL, length
  if count > 2 then
    table_argument(settings, 2, "cmd")
    if settings.proxy_ttl ~= nil then
      proxy_ttl = integer_argument(settings.proxy_ttl, -1, "cmd")
    end
    if settings.forward_fields ~= nil then
      for key, value in next, table_argument(settings.forward_fields, -1, "cmd") do
        if not word(value) then
          error("invalid forward_fields: Table key '" .. tostring(key) .. "' value has invalid type: " .. type(value), 0)
        end
        last = last + 1
        words[last] = tostring(key) .. "=" .. word(value)
      end
    end
  end
  return core.ask("doveadm", client, proxy_ttl, length, unpack(words, 1, last))
end

core.members.doveadm, own = core.maker("doveadm_client", { cmd = cmd })
