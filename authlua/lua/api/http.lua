-- dovecot.http: clients, their requests, and the answers. Submitting is a wish, so other calls go on meanwhile.
-- Objects are plain tables whose methods are members, as in Dovecot; what belongs to one is kept here, under it.

local core = ...
local host, options = core.host, core.options
local expect, string_argument, checked = core.expect, core.string, core.checked
local error, type, next, pairs, select, tostring, setmetatable = error, type, next, pairs, select, tostring, setmetatable
local concat, unpack = table.concat, table.unpack or unpack

local WEAK = { __mode = "k" }
local clients, requests, responses = setmetatable({}, WEAK), setmetatable({}, WEAK), setmetatable({}, WEAK)

local function own(kept, object, name)
  local state = kept[object]
  if state == nil then
    error("Bad argument #1, expected struct " .. name .. " got " .. type(object), 0)
  end
  return state
end

local function table_argument(value, name)
  if type(value) ~= "table" then
    error("bad argument #1 to '" .. name .. "' (table expected, got " .. type(value) .. ")", 3)
  end
  return value
end

-- ## Responses

local response_methods = {
  status = function(...)
    expect(select("#", ...), 1)
    return own(responses, (...), "http_response").status
  end,
  reason = function(...)
    expect(select("#", ...), 1)
    return own(responses, (...), "http_response").reason
  end,
  payload = function(...)
    expect(select("#", ...), 1)
    return own(responses, (...), "http_response").payload
  end,
  header = function(...)
    expect(select("#", ...), 2)
    local self, wanted = ...
    local response = own(responses, self, "http_response")
    wanted = string_argument(wanted, 1, "header"):lower()
    for name, value in response.headers:gmatch("([^\n]*)\n([^\n]*)\n") do
      if name == wanted then
        return value
      end
    end
    return ""
  end,
}

local function object(methods, kept, state)
  local new = { item = kept }
  for name, method in next, methods do
    new[name] = method
  end
  kept[new] = state
  return new
end

local function response_of(request, status, reason, headers, payload, notes)
  if status == nil then
    error(reason, 0)
  end
  if notes then
    for i = 1, #notes do
      core.note(request.event, request.debug, unpack(notes[i]))
    end
  end
  return object(response_methods, responses, { status = status, reason = reason, headers = headers, payload = payload })
end

-- ## Requests

local function line(text)
  if text:find("[\r\n]") or text:find("\0", 1, true) then
    error("header with a line break or NUL", 0)
  end
  return text
end

local function position(headers, name)
  name = name:lower()
  for i = 1, #headers, 2 do
    if headers[i]:lower() == name then
      return i
    end
  end
end

local submit_now = host.http_submit_now
local function submitted(request, arguments, waited, ...)
  if waited then
    return response_of(request, ...)
  end
  return response_of(request, submit_now(core.current, unpack(arguments, 1, arguments.n)))
end

-- Whether to tell of all that happens to a request; it has a number then.
local count = 0
local function told(request)
  local client = request.client
  request.event = request.event or client.event
  if client.debug or options.is_2_4 and core.wants_debug(request.event) then
    count = count + 1
    request.debug = true
    return count
  end
end

local request_methods = {
  add_header = function(...)
    expect(select("#", ...), 3)
    local self, name, value = ...
    local headers = own(requests, self, "http_request").headers
    name = line(string_argument(name, 1, "add_header"))
    value = line(string_argument(value, 2, "add_header"))
    local found = position(headers, name)
    if found then
      headers[found + 1] = value
    else
      headers[#headers + 1] = name
      headers[#headers + 1] = value
    end
  end,
  remove_header = function(...)
    expect(select("#", ...), 2)
    local self, name = ...
    local headers = own(requests, self, "http_request").headers
    local found = position(headers, string_argument(name, 1, "remove_header"))
    if found then
      table.remove(headers, found)
      table.remove(headers, found)
    end
  end,
  set_payload = function(...)
    if options.is_2_4 then
      expect(select("#", ...), 2, 3)
    else
      expect(select("#", ...), 2)
    end
    local self, payload, sync = ...
    local request = own(requests, self, "http_request")
    request.payload = string_argument(payload, 1, "set_payload")
    request.sync = not options.is_2_4 or sync == true
  end,
  submit = function(...)
    expect(select("#", ...), 1)
    local request = own(requests, (...), "http_request")
    if request.submitted then
      error("http_request was submitted before", 0)
    end
    request.submitted = true
    local headers = request.headers
    headers = #headers > 0 and concat(headers, "\n") .. "\n" or ""
    local arguments =
      { request.client.options, request.method, request.url, request.payload, request.sync or false, headers, n = 6 }
    local number = told(request)
    if number then
      arguments[7], arguments.n = number, 7
    end
    return submitted(request, arguments, core.wish("http_submit", unpack(arguments, 1, arguments.n)))
  end,
}

if options.has_base64 then -- 2.4.3
  function request_methods.set_event(...)
    expect(select("#", ...), 2)
    local self, event = ...
    local request, innards = own(requests, self, "http_request"), core.innards_of(event)
    if not innards then
      error("Bad argument #2, expected struct event got " .. type(event), 0)
    end
    request.event = core.below(innards)
  end
  function request_methods.get_event(...)
    expect(select("#", ...), 1)
    local request = own(requests, (...), "http_request")
    request.event = request.event or core.below(request.client.event)
    return core.event_of(request.event)
  end
end

-- ## Clients

local function text_option(value)
  if type(value) ~= "string" and type(value) ~= "number" then
    error("bad argument #-2 to 'request' (string expected, got " .. type(value) .. ")", 3)
  end
  return tostring(value)
end

local parse = host.http_url
local client_methods = {
  request = function(...)
    expect(select("#", ...), 2)
    local self, wanted = ...
    local client = own(clients, self, "http_client")
    table_argument(wanted, "request")
    local url, method = wanted.url, wanted.method
    if url == nil then
      error("cannot create request: url not specified", 0)
    end
    url = text_option(url)
    method = method == nil and "GET" or text_option(method)
    checked(parse(url))
    return object(request_methods, requests, { client = client, method = method, url = url, headers = {} })
  end,
}

-- The event of a client, below the one it was given; in 2.3 otherwise below none.
local made = 0
local function client_event(parent)
  local above = core.innards_of(parent)
  if above == nil then
    if type(parent) == "table" then
      error("Bad argument #-1, expected struct event got table", 0)
    elseif not options.is_2_4 then
      above = false
    end
  end
  made = made + 1
  return core.below(above, "http-client[" .. made .. "]: ")
end

local new_client = host.http_client
core.dovecot.http = {
  client = function(...)
    expect(select("#", ...), 1)
    local triples, count = {}, 0
    local given = table_argument((...), "client")
    for name, value in pairs(given) do
      local kind = type(value)
      local plain = kind == "string" or kind == "number" or kind == "boolean"
      if not plain then
        value = kind
      end
      triples[count + 1], triples[count + 2], triples[count + 3] = tostring(name), kind, value
      count = count + 3
    end
    return object(client_methods, clients, {
      options = checked(new_client(unpack(triples, 1, count))),
      event = client_event(given.event_parent),
      debug = not options.is_2_4 and given.debug,
    })
  end,
}
