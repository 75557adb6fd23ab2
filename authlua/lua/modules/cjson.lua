-- Lua CJSON, for where it is not installed: the same results and texts, in Lua.

local core, name = ...
local host = core.host
local type, error, next, pcall, tostring, tonumber = type, error, next, pcall, tostring, tonumber
local format, byte, char, find, sub, concat = string.format, string.byte, string.char, string.find, string.sub, table.concat
local floor, huge, select = math.floor, math.huge, select

-- One value for all that are null; it is a userdata, which is true.
if not core.null then
  core.null = core.object(host.null(), { __text = "userdata: (nil)" })
end
local null = core.null

-- ## Decoding

local function unicode(code)
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + floor(code / 0x40), 0x80 + code % 0x40)
  elseif code < 0x10000 then
    return char(0xE0 + floor(code / 0x1000), 0x80 + floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
  end
  return char(0xF0 + floor(code / 0x40000), 0x80 + floor(code / 0x1000) % 0x40, 0x80 + floor(code / 0x40) % 0x40,
    0x80 + code % 0x40)
end

local ESCAPES = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local NAMES = {
  ["{"] = "T_OBJ_BEGIN", ["}"] = "T_OBJ_END", ["["] = "T_ARR_BEGIN", ["]"] = "T_ARR_END", [":"] = "T_COLON",
  [","] = "T_COMMA", string = "T_STRING", number = "T_NUMBER", boolean = "T_BOOLEAN", null = "T_NULL", ["end"] = "T_END",
}

-- A token: its kind, its value, and where the next begins; kind "error" with what is wrong as its value.
local scan_string
local function token(text, at, settings)
  at = find(text, "[^ \t\r\n]", at) or #text + 1
  local first = sub(text, at, at)
  if first == "" then
    return "end", nil, at, at
  elseif first == '"' then
    return scan_string(text, at)
  elseif find(first, "[%[%]{}:,]") then
    return first, nil, at + 1, at
  elseif find(first, "[%-%+%d]") then
    local digits = not settings.decode_invalid_numbers and (first == "+" or find(text, "^-?0[%dxX]", at)) and ""
      or text:match("^[%-%+]?0[xX]%x+", at) or text:match("^[%-%+]?%d+%.?%d*[eE][%+%-]?%d+", at)
      or text:match("^[%-%+]?%d+%.?%d*", at) or ""
    local number = tonumber((digits:gsub("^%+", "")))
    if number then
      return "number", digits == "-0" and -0.0 or number + 0.0, at + #digits, at
    end
    return "error", "invalid number", at, at
  elseif sub(text, at, at + 3) == "true" then
    return "boolean", true, at + 4, at
  elseif sub(text, at, at + 4) == "false" then
    return "boolean", false, at + 5, at
  elseif sub(text, at, at + 3) == "null" then
    return "null", null, at + 4, at
  elseif settings.decode_invalid_numbers then
    local word = text:match("^-?[Ii][Nn][Ff][Ii]?[Nn]?[Ii]?[Tt]?[Yy]?", at) or text:match("^[Nn][Aa][Nn]", at)
    if word then
      return "number", find(word:lower(), "nan") and 0 / 0 or sub(word, 1, 1) == "-" and -huge or huge, at + #word, at
    end
  end
  return "error", "invalid token", at, at
end

function scan_string(text, at)
  local pieces, count = {}, 0
  local from = at + 1
  while true do
    local stop = find(text, '["\\]', from)
    local nul = find(text, "%z", from)
    if not stop or nul and nul < stop then
      return "error", "unexpected end of string", #text + 1, nul or #text + 1
    end
    count = count + 1
    pieces[count] = sub(text, from, stop - 1)
    if sub(text, stop, stop) == '"' then
      return "string", concat(pieces, "", 1, count), stop + 1, at
    end
    local letter = sub(text, stop + 1, stop + 1)
    count = count + 1
    if letter == "u" then
      local hex = text:match("^%x%x%x%x", stop + 2)
      local code = hex and tonumber(hex, 16)
      from = stop + 6
      if code and code >= 0xD800 and code <= 0xDBFF then
        local low = text:match("^\\u(%x%x%x%x)", from)
        low = low and tonumber(low, 16)
        if low and low >= 0xDC00 and low <= 0xDFFF then
          code = 0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00)
          from = from + 6
        else
          code = nil
        end
      elseif code and code >= 0xDC00 and code <= 0xDFFF then
        code = nil
      end
      if not code then
        return "error", "invalid unicode escape code", stop, stop
      end
      pieces[count] = unicode(code)
    elseif ESCAPES[letter] then
      pieces[count] = ESCAPES[letter]
      from = stop + 2
    else
      return "error", "invalid escape code", stop, stop
    end
  end
end

local function unexpected(wanted, kind, value, where)
  error(format("Expected %s but found %s at character %d", wanted, kind == "error" and value or NAMES[kind], where), 0)
end

local decode_value

local function decode_object(text, at, depth, settings)
  local object = {}
  local kind, key, after, where = token(text, at, settings)
  if kind == "}" then
    return object, after
  end
  while true do
    if kind ~= "string" then
      unexpected("object key string", kind, key, where)
    end
    kind, _, after, where = token(text, after, settings)
    if kind ~= ":" then
      unexpected("colon", kind, _, where)
    end
    local value
    kind, value, after, where = token(text, after, settings)
    object[key], after = decode_value(text, kind, value, after, where, depth, settings)
    kind, value, after, where = token(text, after, settings)
    if kind == "}" then
      return object, after
    elseif kind ~= "," then
      unexpected("comma or object end", kind, value, where)
    end
    kind, key, after, where = token(text, after, settings)
  end
end

local function decode_array(text, at, depth, settings)
  local array, count = {}, 0
  local kind, value, after, where = token(text, at, settings)
  if kind == "]" then
    return array, after
  end
  while true do
    count = count + 1
    array[count], after = decode_value(text, kind, value, after, where, depth, settings)
    kind, value, after, where = token(text, after, settings)
    if kind == "]" then
      return array, after
    elseif kind ~= "," then
      unexpected("comma or array end", kind, value, where)
    end
    kind, value, after, where = token(text, after, settings)
  end
end

function decode_value(text, kind, value, after, where, depth, settings)
  if kind == "{" or kind == "[" then
    depth = depth + 1
    if depth > settings.decode_max_depth then
      error(format("Found too many nested data structures (%d) at character %d", depth, where), 0)
    end
    return (kind == "{" and decode_object or decode_array)(text, after, depth, settings)
  elseif kind == "string" or kind == "number" or kind == "boolean" or kind == "null" then
    return value, after
  end
  unexpected("value", kind, value, where)
end

-- ## Encoding

local function escaped(c)
  local known = ({ ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
    ["\r"] = "\\r", ["\t"] = "\\t" })[c]
  return known or format("\\u%04x", byte(c))
end

local function string_text(text)
  return '"' .. text:gsub('[%c"\\/\127]', escaped) .. '"'
end

local function refuse(what, problem)
  error(format("Cannot serialise %s: %s", what, problem), 0)
end

local function number_text(number, settings)
  if number ~= number or number == huge or number == -huge then
    if settings.encode_invalid_numbers == "null" then
      return "null"
    elseif not settings.encode_invalid_numbers then
      refuse("number", "must not be NaN or Inf")
    end
    return number ~= number and "nan" or number > 0 and "inf" or "-inf"
  end
  return format("%." .. settings.encode_number_precision .. "g", number)
end

-- How long an array is; nil when it is an object.
local function array_length(value, settings)
  local most, count = 0, 0
  for key in next, value do
    if type(key) ~= "number" or key < 1 or key ~= floor(key) then
      return nil
    end
    most = key > most and key or most
    count = count + 1
  end
  local ratio, safe = settings.sparse_ratio, settings.sparse_safe
  if ratio > 0 and most > count * ratio and most > safe then
    if not settings.sparse_convert then
      refuse("table", "excessively sparse array")
    end
    return nil
  end
  return most > 0 and most or nil
end

local encode_value
local function encode_table(value, out, depth, settings)
  depth = depth + 1
  if depth > settings.encode_max_depth then
    error(format("Cannot serialise, excessive nesting (%d)", depth), 0)
  end
  local length = array_length(value, settings)
  if length then
    out[#out + 1] = "["
    for i = 1, length do
      if i > 1 then
        out[#out + 1] = ","
      end
      encode_value(value[i], out, depth, settings)
    end
    out[#out + 1] = "]"
    return
  end
  out[#out + 1] = "{"
  local is_first = true
  for key, item in next, value do
    if not is_first then
      out[#out + 1] = ","
    end
    is_first = false
    if type(key) == "number" then
      out[#out + 1] = '"' .. number_text(key, settings) .. '":'
    elseif type(key) == "string" then
      out[#out + 1] = string_text(key) .. ":"
    else
      refuse(type(key), "table key must be a number or string")
    end
    encode_value(item, out, depth, settings)
  end
  out[#out + 1] = "}"
end

function encode_value(value, out, depth, settings)
  local kind = type(value)
  if kind == "string" then
    out[#out + 1] = string_text(value)
  elseif kind == "number" then
    out[#out + 1] = number_text(value, settings)
  elseif kind == "boolean" then
    out[#out + 1] = value and "true" or "false"
  elseif kind == "table" then
    encode_table(value, out, depth, settings)
  elseif value == nil or value == null then
    out[#out + 1] = "null"
  else
    refuse(kind, "type not supported")
  end
end

-- ## The module

local function argument(value, position, function_name)
  if type(value) == "number" then
    return tostring(value)
  elseif type(value) ~= "string" then
    error("bad argument #" .. position .. " to '" .. function_name .. "' (string expected, got " ..
      (value == nil and "no value" or type(value)) .. ")", 3)
  end
  return value
end

local function new()
  local settings = {
    decode_max_depth = 1000,
    encode_max_depth = 1000,
    encode_number_precision = 14,
    encode_invalid_numbers = false,
    decode_invalid_numbers = true,
    encode_keep_buffer = true,
    sparse_convert = false,
    sparse_ratio = 2,
    sparse_safe = 10,
  }
  local cjson = { _NAME = "cjson", _VERSION = "2.1.0", null = null }

  function cjson.decode(...)
    if select("#", ...) ~= 1 then
      error("bad argument #1 to 'decode' (expected 1 argument)", 2)
    end
    local text = argument((...), 1, "decode")
    if #text >= 2 and (byte(text, 1) == 0 or byte(text, 2) == 0) then
      error("JSON parser does not support UTF-16 or UTF-32", 2)
    end
    local ok, value, after = pcall(function()
      local kind, value, after, where = token(text, 1, settings)
      value, after = decode_value(text, kind, value, after, where, 0, settings)
      local trouble
      kind, trouble, after, where = token(text, after, settings)
      if kind ~= "end" then
        unexpected("the end", kind, trouble, where)
      end
      return value
    end)
    if not ok then
      error(value, 0)
    end
    return value
  end

  function cjson.encode(...)
    if select("#", ...) ~= 1 then
      error("bad argument #1 to 'encode' (expected 1 argument)", 2)
    end
    local out = {}
    local ok, problem = pcall(encode_value, (...), out, 0, settings)
    if not ok then
      error(problem, 0)
    end
    return concat(out)
  end

  for _, setting in next, { "decode_max_depth", "encode_max_depth", "encode_number_precision", "encode_invalid_numbers",
    "decode_invalid_numbers", "encode_keep_buffer" } do
    cjson[setting] = function(value)
      if value ~= nil then
        settings[setting] = value
      end
      return settings[setting]
    end
  end

  function cjson.encode_sparse_array(convert, ratio, safe)
    if convert ~= nil then
      settings.sparse_convert = convert
    end
    settings.sparse_ratio, settings.sparse_safe = ratio or settings.sparse_ratio, safe or settings.sparse_safe
    return settings.sparse_convert, settings.sparse_ratio, settings.sparse_safe
  end

  cjson.new = new
  return cjson
end

if name == "cjson.safe" then
  local function new_safe()
    local cjson = new()
    for _, function_name in next, { "decode", "encode" } do
      local plain = cjson[function_name]
      cjson[function_name] = function(...)
        local ok, value = pcall(plain, ...)
        if ok then
          return value
        end
        return nil, value
      end
    end
    cjson.new = new_safe
    return cjson
  end
  return new_safe()
end

return new()
