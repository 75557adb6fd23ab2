-- LuaSocket's "mime": base64, quoted-printable, line lengths and line ends, alone and as filters for ltn12.
-- The low functions take what is left from before and the next chunk, which is nil at the end; they give what can be
-- said already, and what is left.

local core = ...
local encode64, decode64 = core.host.base64_encode, core.host.base64_decode
local ltn12 = require("ltn12")
local type, error, tostring = type, error, tostring
local byte, char, format, find = string.byte, string.char, string.format, string.find
local tonumber = tonumber

local mime = { _VERSION = "MIME 1.0.3", encodet = {}, decodet = {}, wrapt = {} }

local function ending(text)
  if text == "" then
    return nil
  end
  return text
end

function mime.b64(left, chunk)
  if left == nil then
    return nil, nil
  elseif chunk == nil then
    return ending(encode64(left)), nil
  end
  local data = left .. chunk
  local whole = #data - #data % 3
  return encode64(data:sub(1, whole)), data:sub(whole + 1)
end

local function digits(text)
  return (text:gsub("[^A-Za-z0-9+/=]", ""))
end

function mime.unb64(left, chunk)
  if left == nil then
    return nil, nil
  end
  local data = digits(left .. (chunk or ""))
  local whole = #data - #data % 4
  local out = {}
  for quad in data:sub(1, whole):gmatch("....") do
    out[#out + 1] = decode64(quad)
  end
  out = table.concat(out)
  if chunk == nil then
    return ending(out), nil
  end
  return out, data:sub(whole + 1)
end

local function escaped(character)
  return format("=%02X", byte(character))
end

-- Quoted-printable. A blank is escaped where it ends a line, so two characters behind it have to be seen first.
function mime.qp(left, chunk, marker)
  marker = marker or "\r\n"
  if left == nil then
    return nil, nil
  end
  local data = left .. (chunk or "")
  local out, at = {}, 1
  while at <= #data do
    local character = data:sub(at, at)
    if find(character, "[\t ]") then
      if at + 2 > #data then
        break
      elseif data:sub(at + 1, at + 2) == "\r\n" then
        character = escaped(character) .. marker
        at = at + 2
      end
    elseif character == "\r" then
      if at + 1 > #data then
        break
      elseif data:sub(at + 1, at + 1) == "\n" then
        character = marker
        at = at + 1
      else
        character = "=0D"
      end
    elseif not find(character, "[!-<>-~]") then
      character = escaped(character)
    end
    out[#out + 1] = character
    at = at + 1
  end
  local rest = data:sub(at)
  if chunk ~= nil then
    return table.concat(out), rest
  elseif rest ~= "" then
    out[#out + 1] = rest:gsub("[^!-<>-~]", escaped)
    out[#out + 1] = "=\r\n"
  end
  return ending(table.concat(out)), nil
end

function mime.unqp(left, chunk)
  if left == nil then
    return nil, nil
  end
  local data = left .. (chunk or "")
  local out, at = {}, 1
  while at <= #data do
    local character = data:sub(at, at)
    if character == "=" then
      if at + 2 > #data then
        break
      end
      local escape = data:sub(at + 1, at + 2)
      if find(escape, "^%x%x$") then
        out[#out + 1] = char(tonumber(escape, 16))
      elseif escape ~= "\r\n" then
        out[#out + 1] = "=" .. escape
      end
      at = at + 3
    elseif character == "\r" then
      if at + 1 > #data then
        break
      elseif data:sub(at + 1, at + 1) == "\n" then
        out[#out + 1] = "\r\n"
      end
      at = at + 2
    else
      if find(character, "[\t -~]") then
        out[#out + 1] = character
      end
      at = at + 1
    end
  end
  if chunk == nil then
    return ending(table.concat(out)), nil
  end
  return table.concat(out), data:sub(at)
end

-- Lines of at most `length`; `left` is how much room the line has that is being written.
function mime.wrp(left, chunk, length)
  length = length or 76
  if chunk == nil then
    if left < length then
      return "\r\n", length + 0.0
    end
    return nil, length + 0.0
  end
  local out = {}
  for i = 1, #chunk do
    local character = chunk:sub(i, i)
    if character == "\n" then
      out[#out + 1] = "\r\n"
      left = length
    elseif character ~= "\r" then
      if left <= 0 then
        left = length
        out[#out + 1] = "\r\n"
      end
      out[#out + 1] = character
      left = left - 1
    end
  end
  return table.concat(out), left + 0.0
end

-- The same for quoted-printable, whose escapes are not torn and whose line ends are soft.
function mime.qpwrp(left, chunk, length)
  length = length or 76
  if chunk == nil then
    if left < length then
      return "=\r\n", length + 0.0
    end
    return nil, length + 0.0
  end
  local out = {}
  for i = 1, #chunk do
    local character = chunk:sub(i, i)
    if character == "\n" then
      left = length
      out[#out + 1] = "\r\n"
    elseif character == "=" then
      if left <= 3 then
        left = length
        out[#out + 1] = "=\r\n"
      end
      out[#out + 1] = character
      left = left - 1
    elseif character ~= "\r" then
      if left <= 1 then
        left = length
        out[#out + 1] = "=\r\n"
      end
      out[#out + 1] = character
      left = left - 1
    end
  end
  return table.concat(out), left + 0.0
end

-- Line ends of any kind become `marker`; the state is the character that may be half of one.
function mime.eol(state, chunk, marker)
  marker = marker or "\r\n"
  if chunk == nil then
    return nil, 0.0
  end
  local out = {}
  for i = 1, #chunk do
    local code = byte(chunk, i)
    if code == 13 or code == 10 then
      if (state == 13 or state == 10) and code ~= state then
        state = 0 -- the other half
      else
        out[#out + 1] = marker
        state = code
      end
    else
      out[#out + 1] = char(code)
      state = 0
    end
  end
  return table.concat(out), state + 0.0
end

-- A dot that begins a line is doubled, as SMTP wants it; the state is how much of a line end has been seen.
function mime.dot(state, chunk)
  if chunk == nil then
    return nil, 2.0
  end
  local out = {}
  for i = 1, #chunk do
    local character = chunk:sub(i, i)
    out[#out + 1] = character
    if character == "\r" then
      state = 1
    elseif character == "\n" then
      state = state == 1 and 2 or 0
    elseif character == "." and state == 2 then
      out[#out + 1] = "."
      state = 0
    else
      state = 0
    end
  end
  return table.concat(out), state + 0.0
end

-- ## Filters by name

local function choose(list)
  return function(name, first, second)
    if type(name) ~= "string" then
      name, first, second = "default", name, first
    end
    local make = list[name or "nil"]
    if not make then
      error("unknown key (" .. tostring(name) .. ")", 3)
    end
    return make(first, second)
  end
end

mime.encodet["base64"] = function() return ltn12.filter.cycle(mime.b64, "") end
mime.encodet["quoted-printable"] = function(mode)
  return ltn12.filter.cycle(mime.qp, "", mode == "binary" and "=0D=0A" or "\r\n")
end
mime.decodet["base64"] = function() return ltn12.filter.cycle(mime.unb64, "") end
mime.decodet["quoted-printable"] = function() return ltn12.filter.cycle(mime.unqp, "") end
mime.wrapt["text"] = function(length)
  length = length or 76
  return ltn12.filter.cycle(mime.wrp, length, length)
end
mime.wrapt["base64"], mime.wrapt["default"] = mime.wrapt["text"], mime.wrapt["text"]
mime.wrapt["quoted-printable"] = function() return ltn12.filter.cycle(mime.qpwrp, 76, 76) end

mime.encode, mime.decode, mime.wrap = choose(mime.encodet), choose(mime.decodet), choose(mime.wrapt)

function mime.normalize(marker)
  return ltn12.filter.cycle(mime.eol, 0, marker)
end

function mime.stuff()
  return ltn12.filter.cycle(mime.dot, 2)
end

return mime
