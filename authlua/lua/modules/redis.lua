-- The "redis" of redis-lua 2.0.5: a client of Redis over our sockets.
--
-- What a script takes for a connection is a set of sessions with the same parameters; each call has one to itself
-- until it is over. What the script said to its connection while it was loaded, or in the call that opened it, such as
-- AUTH and SELECT, is said in each of them.

local core = ...
local host, waited, holder = core.host, core.waited, core.holder
local socket, unix, url = core.twin("socket"), core.twin("socket.unix"), core.twin("socket.url")
local assert, error, ipairs, next, pairs = assert, error, ipairs, next, pairs
local pcall, rawget, select, setmetatable, tonumber = pcall, rawget, select, setmetatable, tonumber
local tostring, type, unpack = tostring, type, table.unpack or unpack
local concat, coroutine = table.concat, coroutine

local redis = { _VERSION = "redis-lua 2.0.5-dev", _DESCRIPTION = "A client of Redis that holds nobody up.", commands = {} }

function redis.error(message, level)
  error(message, (level or 1) + 1)
end

-- ## Sessions

local SETTINGS = { AUTH = true, SELECT = true }
local BINDING = { MULTI = true, WATCH = true, SUBSCRIBE = true, PSUBSCRIBE = true, MONITOR = true }
local FREEING = { EXEC = true, DISCARD = true }

local states = setmetatable({}, { __mode = "k" })  -- the `network` of a client → what is known of its sessions

local function open(parameters)
  if parameters.scheme == "unix" then
    local sock = unix()
    local ok, problem = sock:connect(parameters.path)
    if not ok then
      redis.error("could not connect to " .. tostring(parameters.path) .. " [" .. problem .. "]")
    end
    return sock
  end
  local scheme = parameters.scheme
  assert(not scheme or scheme == "redis" or scheme == "tcp", "invalid scheme: " .. tostring(scheme))
  local sock, port = socket.tcp(), tonumber(parameters.port)
  if parameters.timeout then
    sock:settimeout(parameters.timeout, "t")
  end
  local ok, problem = sock:connect(parameters.host, port)
  if not ok then
    redis.error("could not connect to " .. parameters.host .. ":" .. port .. " [" .. problem .. "]")
  end
  sock:setoption("tcp-nodelay", parameters.tcp_nodelay)
  return sock
end

local send, receive

-- One more session, which hears what the first has heard.
local function another(state)
  local sock = open(state.parameters)
  local first = state.first
  if first then
    local block, total = first:gettimeout()
    sock:settimeout(block, "b")
    sock:settimeout(total, "t")
    for _, said in ipairs(state.said) do
      local session = { socket = sock }
      send(session, said)
      receive(session) -- OK, or an error, of which the script was told when it said so
    end
  else
    state.first = sock
  end
  return { socket = sock }
end

-- The session of this call.
local function session_of(network)
  local state, call = states[network], core.current
  local session = state.session
  if session and call and state.call == call then
    return session
  end
  local number = waited(host.seats_take(holder(), state.seats))
  if not number then
    redis.error("all connections are taken by logins that wait")
  end
  session = state.sessions[number]
  if not session or call and session.call ~= call and (session.is_bound or not host.tcp_quiet(session.socket)) then
    if session then
      session.socket:close()
    end
    state.sessions[number] = nil
    session = another(state)
    state.sessions[number] = session
  end
  session.call, state.call, state.session = call, call, session
  return session
end

-- What answers to what is told by nothing but their order, so that after a failure there is no telling.
local function failed(session, problem)
  if not session.listens then
    session.socket:close()
  end
  redis.error(problem)
end

function send(session, text)
  local _, problem = session.socket:send(text)
  if problem then
    failed(session, problem)
  end
end

function receive(session, length)
  local text, problem = session.socket:receive(length or "*l")
  if problem then
    failed(session, "connection error: " .. problem)
  end
  return text
end

-- The session a client talks to; a socket of the script's own is its only one.
local function talking(network)
  local own = rawget(network, "socket")
  return own and { socket = own } or session_of(network)
end

local network = {
  write = function(client, text)
    send(talking(client.network), text)
  end,
  read = function(client, length)
    return receive(talking(client.network), length)
  end,
}

local of_network = {
  __index = function(self, key)
    if key == "socket" then
      return session_of(self).socket
    end
  end,
}

-- Take note of what a session hears.
local function heard(client, command, text)
  local state = states[client.network]
  if not state or rawget(client.network, "socket") then
    return
  end
  local call = core.current
  if SETTINGS[command] and (call == nil or call == state.born) then
    state.said[#state.said + 1] = text
  elseif BINDING[command] then
    local session = session_of(client.network)
    session.is_bound, session.listens = true, command ~= "MULTI" and command ~= "WATCH"
  elseif FREEING[command] then
    session_of(client.network).is_bound = nil
  end
end

-- ## The protocol

local function raw(client, buffer)
  if type(buffer) == "table" then
    buffer = concat(buffer)
  elseif type(buffer) ~= "string" then
    client.error("argument error: " .. type(buffer))
  end
  heard(client, (buffer:match("^%s*(%S+)") or ""):upper(), buffer)
  client.network.write(client, buffer)
end

local function multibulk(client, command, ...)
  local arguments = { ... }
  if #arguments == 1 and type(arguments[1]) == "table" then
    arguments = arguments[1]
  end
  local count = #arguments
  local parts = { "*" .. count + 1 .. "\r\n$" .. #command .. "\r\n" .. command .. "\r\n" }
  for i = 1, count do
    local argument = tostring(arguments[i] or "")
    parts[i + 1] = "$" .. #argument .. "\r\n" .. argument .. "\r\n"
  end
  local text = concat(parts)
  heard(client, command:upper(), text)
  client.network.write(client, text)
end

-- A reply, and what is wrong with it. All of it is read even so: what follows belongs to the next.
local function reply_of(client)
  local line = client.network.read(client)
  local kind, data = line:sub(1, 1), line:sub(2)
  if kind == "+" then
    if data == "OK" then
      return true
    elseif data == "QUEUED" then
      return { queued = true }
    end
    return data
  elseif kind == "-" then
    return nil, "redis error: " .. data
  elseif kind == ":" then
    local number = tonumber(data)
    if not number and data ~= "nil" then
      return nil, "cannot parse " .. data .. " as a numeric response."
    end
    return number
  elseif kind == "$" then
    local length = tonumber(data)
    if not length then
      return nil, "cannot parse " .. data .. " as data length"
    elseif length == -1 then
      return nil
    end
    return (client.network.read(client, length + 2):sub(1, -3))
  elseif kind == "*" then
    local count, list, problem = tonumber(data), {}, nil
    if count == -1 then
      return nil
    end
    for i = 1, count do
      local wrong
      list[i], wrong = reply_of(client)
      problem = problem or wrong
    end
    return list, problem
  end
  return nil, "unknown response prefix: " .. kind
end

local function reply(client)
  local value, problem = reply_of(client)
  if problem then
    return client.error(problem)
  end
  return value
end

-- ## Commands

-- A method that asks with `request` and gives what `response` makes of the reply.
local function command(name, options)
  local request, response = multibulk, options
  if type(options) == "table" then
    request, response = options.request or multibulk, options.response
  end
  name = name:upper()
  return function(client, ...)
    request(client, name, ...)
    local value = reply(client)
    if type(value) == "table" and value.queued then
      value.parser = response
      return value
    elseif response then
      return response(value, name, ...)
    end
    return value
  end
end

local function define(commands, name, options)
  options = options or {}
  commands[name:lower()] = command(options.command or name, options)
end

function redis.command(name, options)
  return command(name, options)
end

function redis.define_command(name, options)
  define(redis.commands, name, options)
end

function redis.undefine_command(name)
  redis.commands[name:lower()] = nil
end

local function add(list, ...)
  for i = 1, select("#", ...) do
    list[#list + 1] = (select(i, ...))
  end
end

-- The arguments without the table of options that may stand behind them.
local function without_options(...)
  local arguments, options = { ... }, {}
  if type(arguments[#arguments]) == "table" then
    options, arguments[#arguments] = arguments[#arguments], nil
  end
  return arguments, options
end

local function ask_sort(client, name, key, how)
  local query, limit = { key }, nil
  how = how or {}
  if how.by then add(query, "BY", how.by) end
  limit = how.limit
  if type(limit) == "table" then add(query, "LIMIT", limit[1], limit[2]) end
  if how.get then
    for _, pattern in pairs(type(how.get) == "table" and how.get or { how.get }) do
      add(query, "GET", pattern)
    end
  end
  if how.sort then add(query, how.sort) end
  if how.alpha == true then add(query, "ALPHA") end
  if how.store then add(query, "STORE", how.store) end
  multibulk(client, name, query)
end

local function ask_range(client, name, ...)
  local query, options = without_options(...)
  local limit = name:find("BYSCORE") and options.limit
  if limit then add(query, "LIMIT", limit.offset or limit[1], limit.count or limit[2]) end
  if options.withscores then add(query, "WITHSCORES") end
  multibulk(client, name, query)
end

local function ask_store(client, name, ...)
  local query, options = without_options(...)
  if type(options.weights) == "table" then add(query, "WEIGHTS", unpack(options.weights)) end
  if options.aggregate then add(query, "AGGREGATE", options.aggregate) end
  multibulk(client, name, query)
end

-- Names and values, which may come as a table, behind `before` other arguments.
local function ask_pairs(before)
  return function(client, name, ...)
    local query = { ... }
    local fields = query[before + 1]
    if #query == before + 1 and type(fields) == "table" then
      query[before + 1] = nil
      for field, value in pairs(fields) do
        add(query, field, value)
      end
    end
    multibulk(client, name, query)
  end
end

local function ask_fields(client, name, ...)
  local query = { ... }
  local fields = query[2]
  if #query == 2 and type(fields) == "table" then
    query[2] = nil
    for _, field in pairs(fields) do
      add(query, field)
    end
  end
  multibulk(client, name, query)
end

local function ask_scan(client, name, ...)
  local query = name == "SCAN" and { (...) } or { (...), (select(2, ...)) }
  local options = select(name == "SCAN" and 2 or 3, ...)
  if options and options.match then add(query, "MATCH", options.match) end
  if options and options.count then add(query, "COUNT", options.count) end
  multibulk(client, name, query)
end

local function is_one(value)
  return value == 1
end

local function number(value)
  return tonumber(value)
end

-- { name, value, name, value } as { name = value }.
local function by_name(list)
  local named = {}
  for i = 1, #list, 2 do
    named[list[i]] = list[i + 1]
  end
  return named
end

local function in_pairs(list, convert)
  local paired = {}
  for i = 1, #list, 2 do
    paired[#paired + 1] = { list[i], convert and convert(list[i + 1]) or list[i + 1] }
  end
  return paired
end

local function ranked(list, _, _, _, _, options)
  local kind = type(options)
  if kind == "table" and options.withscores or kind == "string" and options:lower() == "withscores" then
    return in_pairs(list)
  end
  return list
end

local function scanned(convert)
  return function(value)
    value[2] = convert(value[2])
    return value
  end
end

local function named_if_list(value)
  return type(value) == "table" and by_name(value) or value
end

local function slow(value)
  if type(value) ~= "table" then
    return value
  end
  local list = {}
  for i, entry in ipairs(value) do
    list[i] = { id = tonumber(entry[1]), timestamp = tonumber(entry[2]), duration = tonumber(entry[3]), command = entry[4] }
  end
  return list
end

local function informed(text)
  local info = {}
  local section = info
  for line in text:gmatch("([^\r\n]*)\r\n") do
    local title = line:match("^# (%w+)$")
    local key, value = line:match("([^:]*):([^:]*)")
    if title then
      section = {}
      info[title:lower()] = section
    elseif key and key:match("db%d+") then
      local rest, last = line:match("([^:]*)=([^:]*)")  -- cut at the last "=", as redis-lua has it
      section[key] = { [rest] = last }
    elseif key then
      section[key] = value
    end
  end
  return info
end

local function commands(names, options)
  for name in names:gmatch("%S+") do
    redis.commands[name] = command(name, options)
  end
end

commands([[del type rename ttl pttl dbsize randomkey keys set setex psetex get mget getset incr incrby decr decrby append
  substr strlen setrange getrange setbit getbit bitop bitcount rpush lpush llen lrange ltrim lindex lset lrem lpop rpop
  rpoplpush blpop brpop rpushx lpushx linsert brpoplpush lpos sadd srem spop scard sinter sinterstore sunion sunionstore
  sdiff sdiffstore smembers srandmember zadd zrem zcount zcard zscore zremrangebyscore zrank zrevrank zremrangebyrank
  hincrby hget hdel hlen hkeys hvals echo auth select multi exec discard watch unwatch subscribe unsubscribe psubscribe
  punsubscribe publish eval evalsha script bgrewriteaof client slaveof save bgsave lastsave flushdb flushall monitor
  time]])
commands("exists renamenx expire pexpire expireat pexpireat move persist setnx smove sismember hset hsetnx hexists", is_one)
commands("incrbyfloat zincrby hincrbyfloat", number)
commands("mset", { request = ask_pairs(0) })
commands("msetnx", { request = ask_pairs(0), response = is_one })
commands("hmset", { request = ask_pairs(1) })
commands("hmget", { request = ask_fields })
commands("hgetall", by_name)
commands("sort", { request = ask_sort })
commands("zrange zrevrange zrangebyscore zrevrangebyscore", { request = ask_range, response = ranked })
commands("zunionstore zinterstore", { request = ask_store })
commands("scan sscan", { request = ask_scan })
commands("hscan", { request = ask_scan, response = scanned(by_name) })
commands("zscan", { request = ask_scan, response = scanned(function(list) return in_pairs(list, tonumber) end) })
commands("ping", function(value) return value == "PONG" end)
commands("config", named_if_list)
commands("slowlog", slow)
commands("info", informed)

-- ## What is no command

local methods = {}

function methods.raw_cmd(client, text)
  raw(client, text .. "\r\n")
  return reply(client)
end

function methods.define_command(client, name, options)
  define(client, name, options)
end

function methods.undefine_command(client, name)
  client[name:lower()] = nil
end

function methods.quit(client)
  multibulk(client, "QUIT")
  client.network.socket:shutdown()
  return true
end

function methods.shutdown(client)
  multibulk(client, "SHUTDOWN")
  client.network.socket:shutdown()
end

-- Commands are kept until the block is over, then sent at once. The client itself is as ever meanwhile, for others.
function methods.pipeline(client, block)
  local requests, responses = {}, {}
  local keeping = setmetatable({
    network = {
      write = function(_, text) requests[#requests + 1] = text end,
      read = function() return "+QUEUED" end,
    },
  }, { __index = client })
  states[keeping.network] = states[client.network]
  local ok, problem = pcall(block, setmetatable({}, {
    __index = function(_, name)
      local method = client[name]
      if not method then
        client.error("unknown redis command: " .. name, 2)
      end
      return function(_, ...)
        local queued = method(keeping, ...)
        responses[#requests] = queued.parser
        return queued
      end
    end,
  }))
  if not ok then
    client.error(problem, 0)
  end
  client.network.write(client, concat(requests))
  local replies, first_problem = {}, nil
  for i = 1, #requests do
    local value, wrong = reply_of(client)
    first_problem = first_problem or wrong
    if responses[i] and not first_problem then
      value = responses[i](value)
    end
    replies[i] = value
  end
  if first_problem then
    client.error(first_problem)
  end
  return replies, #requests
end

-- ### Transactions

-- What the block gets: a client that reads at once until MULTI, and then collects.
local function transaction_client(client, responses)
  local view = {
    exec = function() client.error("cannot use EXEC inside a transaction block") end,
    commands_queued = function() return #responses end,
    multi = function() coroutine.yield() end,
  }
  return setmetatable(view, { __index = client })
end

local function begin_multi(client, view, responses, keys)
  view.multi = nil
  view.watch = function() client.error("WATCH inside MULTI is not allowed") end
  view.discard = function()
    local answer = client:discard()
    for i = #responses, 1, -1 do
      responses[i] = nil
    end
    if #keys > 0 then
      client:watch(unpack(keys))
    end
    client:multi()
    return answer
  end
  setmetatable(view, {
    __index = function(_, name)
      local method = client[name]
      if type(method) ~= "function" then
        return method
      end
      return function(_, ...)
        local queued = method(client, ...)
        assert(type(queued) == "table" and queued.queued == true, "a QUEUED reply was expected")
        responses[#responses + 1] = queued.parser or function(value) return value end
        return queued
      end
    end,
  })
  client:multi()
end

local function transact(client, keys, block, attempts)
  local responses = {}
  local view = transaction_client(client, responses)
  local thread = coroutine.create(block)
  if #keys > 0 then
    client:watch(unpack(keys))
  end
  assert(coroutine.resume(thread, view))
  begin_multi(client, view, responses, keys)
  local ok, problem = true, "empty transaction"
  if coroutine.status(thread) == "suspended" then
    ok, problem = coroutine.resume(thread)
  end
  if #responses == 0 or not ok then
    client:discard()
    assert(ok, problem)
    return {}, 0
  end
  local values = client:exec()
  if not values then
    if attempts <= 0 then
      client.error("MULTI/EXEC transaction aborted by the server")
    end
    return transact(client, keys, block, attempts - 1)
  end
  local replies = {}
  for i, response in ipairs(responses) do
    replies[i] = response(values[i])
  end
  return replies, #responses
end

function methods.transaction(client, options, block)
  if not block then
    options, block = {}, options
  elseif not options then
    client.error("Invalid parameters for redis transaction.")
  elseif type(options) ~= "table" then
    options = { options }
  end
  local keys = options.watch
  if not keys then
    keys = {}
    for i, key in pairs(options) do
      if tonumber(i) then
        keys[#keys + 1] = key
      end
    end
  elseif type(keys) ~= "table" then
    keys = { keys }
  end
  local whole = block
  if not options.cas then
    whole = function(view, ...)
      view:multi()
      return block(view, ...)
    end
  end
  return transact(client, keys, whole, tonumber(options.retry) or 2)
end

-- ### Messages

local function listed(channels)
  return type(channels) == "string" and { channels } or channels
end

function methods.pubsub(client, subscriptions)
  if type(subscriptions) == "table" then
    for _, name in ipairs({ "subscribe", "psubscribe" }) do
      if subscriptions[name] then
        multibulk(client, name, listed(subscriptions[name]))
      end
    end
  end
  local is_ending, count = false, 0
  local function abort()
    if not is_ending then
      multibulk(client, "unsubscribe")
      multibulk(client, "punsubscribe")
      is_ending = true
    end
  end
  return coroutine.wrap(function()
    while true do
      local value = reply(client)
      local message = { kind = value[1], channel = value[2], payload = value[3] }
      if message.kind == "pmessage" then
        message = { kind = value[1], pattern = value[2], channel = value[3], payload = value[4] }
      elseif message.kind:match("^p?subscribe$") then
        count = count + 1
      elseif message.kind:match("^p?unsubscribe$") then
        count = count - 1
      end
      if is_ending and count == 0 then
        return
      end
      coroutine.yield(message, abort)
    end
  end)
end

function methods.monitor_messages(client)
  local goes_on = true
  local function abort()
    goes_on = false
  end
  return coroutine.wrap(function()
    client:monitor()
    while goes_on do
      local line = reply(client)
      local time, about, name, arguments = line:match('^(%d+%.%d+)( ?.- ?) ?"(%a+)" ?(.-)$')
      if not time then
        client.error("Unable to match MONITOR payload: " .. line)
      end
      coroutine.yield({
        timestamp = tonumber(time),
        client = about:match("%d+.%d+.%d+.%d+:%d+"),
        database = tonumber((about:match("%d+"))) or 0,
        command = name,
        arguments = arguments:match(".+"),
      }, abort)
    end
  end)
end

-- ## Connecting

local DEFAULTS = { host = "127.0.0.1", port = 6379, tcp_nodelay = true }
local BOOLEANS = { ["1"] = true, ["true"] = true, TRUE = true, ["0"] = false, ["false"] = false, FALSE = false }

local function parameters_of(...)
  local first, port, timeout = ...
  if #{ ... } > 1 then
    return { host = first, port = port, timeout = tonumber(timeout) }
  elseif type(first) == "table" or first == nil then
    return first or {}
  end
  local parameters = url.parse(first)
  if not parameters.scheme then
    parameters.host = parameters.path
  end
  for name, value in (parameters.query or ""):gmatch("([-_%w]+)=([-_%w]+)") do
    if name == "tcp_nodelay" or name == "tcp-nodelay" then
      parameters.tcp_nodelay = BOOLEANS[value]
    elseif name == "timeout" then
      parameters.timeout = tonumber(value)
    end
  end
  return parameters
end

function redis.connect(...)
  local parameters = parameters_of(...)
  for name, value in next, DEFAULTS do
    if parameters[name] == nil then
      parameters[name] = value
    end
  end
  if type(redis.commands) ~= "table" then
    redis.error("invalid type for the commands table")
  end
  local client = { error = redis.error, requests = { multibulk = multibulk } }
  for name, method in pairs(redis.commands) do
    if type(method) ~= "function" then
      redis.error("invalid type for command " .. name .. "(must be a function)")
    end
    client[name] = method
  end
  for name, method in next, methods do
    client[name] = method
  end
  client.network = { read = network.read, write = network.write, socket = parameters.socket }
  if not parameters.socket then
    local kept = {}
    for name, value in pairs(parameters) do
      kept[name] = value
    end
    states[client.network] = {
      parameters = kept, seats = host.seats_new(), sessions = {}, said = {}, born = core.current,
    }
    setmetatable(client.network, of_network)
    session_of(client.network)
  end
  return client
end

return redis
