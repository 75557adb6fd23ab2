-- LuaSocket's "socket.url": URLs taken apart, put together, and resolved against one another.

local type, pairs, ipairs, tonumber, concat = type, pairs, ipairs, tonumber, table.concat
local format, byte, char = string.format, string.byte, string.char

local url = { _VERSION = "URL 1.0.3" }

function url.escape(text)
  return (text:gsub("[^A-Za-z0-9_]", function(c) return format("%%%02x", byte(c)) end))
end

function url.unescape(text)
  return (text:gsub("%%(%x%x)", function(hex) return char(tonumber(hex, 16)) end))
end

-- Cut what matches off `text`; the rest, and what was found.
local function cut(text, pattern)
  local first, last, found = text:find(pattern)
  if not first then
    return text, nil
  end
  return text:sub(1, first - 1) .. text:sub(last + 1), found
end

function url.parse(text, default)
  local parsed = {}
  for name, value in pairs(default or parsed) do
    parsed[name] = value
  end
  if not text or text == "" then
    return nil, "invalid url"
  end
  local function take(name, pattern)
    local found
    text, found = cut(text, pattern)
    if found then
      parsed[name] = found
    end
    return found
  end
  take("scheme", "^([%w][%w%+%-%.]*)%:")
  take("authority", "^//([^/]*)")
  take("fragment", "#(.*)$")
  take("query", "%?(.*)$")
  take("params", "%;(.*)$")
  if text ~= "" then
    parsed.path = text
  end
  local authority = parsed.authority
  if not authority then
    return parsed
  end
  text = authority
  take("userinfo", "^([^@]*)@")
  local port
  text, port = cut(text, ":([^:%]]*)$")
  if port then
    parsed.port = port
  end
  if text ~= "" then
    parsed.host = text:match("^%[(.+)%]$") or text
  end
  local userinfo = parsed.userinfo
  if not userinfo then
    return parsed
  end
  text = userinfo
  take("password", ":([^:]*)$")
  parsed.user = text
  return parsed
end

function url.build(parsed)
  local text = parsed.path or ""
  if parsed.params then
    text = text .. ";" .. parsed.params
  end
  if parsed.query then
    text = text .. "?" .. parsed.query
  end
  local authority = parsed.authority
  if parsed.host then
    authority = parsed.host
    if authority:find(":") then
      authority = "[" .. authority .. "]"
    end
    if parsed.port then
      authority = authority .. ":" .. parsed.port
    end
    local userinfo = parsed.userinfo
    if parsed.user then
      userinfo = parsed.user
      if parsed.password then
        userinfo = userinfo .. ":" .. parsed.password
      end
    end
    if userinfo then
      authority = userinfo .. "@" .. authority
    end
  end
  if authority then
    text = "//" .. authority .. text
  end
  if parsed.scheme then
    text = parsed.scheme .. ":" .. text
  end
  if parsed.fragment then
    text = text .. "#" .. parsed.fragment
  end
  return text
end

-- `.` and `..` go (RFC 3986 section 5.2.4), wherever they are behind the authority.
local function without_dots(text)
  local place, path = text:match("^(.-//[^/]*)(/.*)$")
  if not place then
    place, path = "", text
  end
  local function all(pattern, by)
    local count
    repeat
      path, count = path:gsub(pattern, by, 1)
    until count == 0
  end
  all("/%./", "/")
  path = path:gsub("/%.$", "/")
  all("/([^/]+)/%.%./", function(segment) return segment ~= ".." and "/" or "\0" .. segment .. "\0" end)
  path = path:gsub("%z(%.%.)%z", "/%1/../")
  path = path:gsub("/([^/]+)/%.%.$", function(segment) return segment ~= ".." and "/" or nil end)
  if path:sub(1, 1) == "/" then
    all("^/%.%./", "/")
    path = path:gsub("^/%.%.$", "/")
  end
  return place .. path
end

local function merged(base, relative)
  if relative:sub(1, 1) == "/" then
    return relative
  end
  local directory = base:gsub("[^/]*$", "")
  return (directory == "" and base == "" and "/" or directory) .. relative:gsub("^%./", "")
end

function url.absolute(base, relative)
  local parsed = base
  if type(base) == "table" then
    base = url.build(parsed)
  else
    parsed = url.parse(base)
  end
  local wanted = url.parse(relative)
  if not parsed then
    return relative
  elseif not wanted then
    return base
  elseif wanted.scheme then
    return relative
  end
  wanted.scheme = parsed.scheme
  if not wanted.authority then
    wanted.authority = parsed.authority
    if not wanted.path then
      wanted.path = parsed.path
      if not wanted.params then
        wanted.params = parsed.params
        wanted.query = wanted.query or parsed.query
      end
    else
      wanted.path = merged(parsed.path or "", wanted.path)
    end
  end
  return without_dots(url.build(wanted))
end

function url.parse_path(path)
  path = path or ""
  local segments = {}
  for segment in path:gmatch("([^/]+)") do
    segments[#segments + 1] = url.unescape(segment)
  end
  if path:sub(1, 1) == "/" then
    segments.is_absolute = 1
  end
  if path:sub(-1) == "/" then
    segments.is_directory = 1
  end
  return segments
end

local function segment_text(text)
  return (text:gsub("[^%w_%-%.!~*'():@&=+$,]", function(c) return format("%%%02X", byte(c)) end))
end

function url.build_path(segments, unsafe)
  local words = {}
  for i, segment in ipairs(segments) do
    words[i] = unsafe and segment or segment_text(segment)
  end
  local path = concat(words, "/")
  if segments.is_directory and #words > 0 then
    path = path .. "/"
  end
  if segments.is_absolute then
    path = "/" .. path
  end
  return path
end

return url
