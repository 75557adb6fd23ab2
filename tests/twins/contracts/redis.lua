-- redis-lua over a real Redis: how to connect, what commands give, pipelines, transactions, messages, errors.
-- HOST, PORT and PATH lead to the server; nobody listens at CLOSED.
local redis = require("redis")
local unpack = table.unpack or unpack

local function shown(value)
  if type(value) == "table" then
    local words, list = {}, {}
    for i = 1, #value do
      words[i] = shown(value[i])
    end
    for key, item in pairs(value) do
      if type(key) ~= "number" or key < 1 or key > #value then
        list[#list + 1] = tostring(key) .. "=" .. shown(item)
      end
    end
    table.sort(list)
    for _, word in ipairs(list) do
      words[#words + 1] = word
    end
    return "{" .. table.concat(words, " ") .. "}"
  elseif type(value) == "function" then
    return "function"
  elseif type(value) == "number" and value % 1 == 0 then
    return ("%d"):format(value)  -- Lua 5.1, the other side, has no integers
  end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function show(label, ...)
  local words = {}
  for i = 1, select("#", ...) do
    words[i] = shown((select(i, ...)))
  end
  print(label .. "\t" .. table.concat(words, "\t"))
end

local function fails(label, method, ...)
  local ok, message = pcall(method, ...)
  message = tostring(message)
  repeat
    local found
    message, found = message:gsub("^[^ ]*:%d+: ", "")
  until found == 0
  show(label, ok, message)
end

-- ways to connect
local parameters = { host = "HOST", port = PORT }
local c = redis.connect(parameters)
show("parameters", parameters)
show("table", c:ping(), type(c.network.socket), type(c.network.read), type(c.requests.multibulk))
show("arguments", redis.connect("HOST", PORT):ping(), redis.connect("HOST", PORT, 5):ping(), redis.connect("HOST", "PORT"):ping())
show("addresses", redis.connect("redis://HOST:PORT"):ping(), redis.connect("tcp://HOST:PORT/?tcp_nodelay=0&timeout=5"):ping())
show("unix", redis.connect("unix://PATH"):echo("over a path"), redis.connect({ scheme = "unix", path = "PATH" }):ping())
local own = require("socket").tcp()
own:connect("HOST", PORT)
local over = redis.connect({ socket = own })
show("own socket", over:echo("mine"), over.network.socket == own, over:quit())
fails("quit", over.ping, over)
fails("refused", redis.connect, "HOST", CLOSED)
fails("refused", redis.connect, "redis://HOST:CLOSED")
fails("no path", redis.connect, "unix:///nosuch/redis")
fails("no host", redis.connect, "no.such.invalid", PORT)
fails("scheme", redis.connect, "http://HOST:PORT")

-- a socket with a path
local unix = require("socket.unix")
local path = unix()
show("path", type(unix), type(unix.stream), type(path), (tostring(path):gsub(":.*", "")))
show("no path", path:connect("/nosuch/redis"))
path = unix.tcp()
show("connect", path:connect("PATH"), (tostring(path):gsub(":.*", "")), path:getsockname(), path.getpeername, path.getfamily)
show("settimeout", path:settimeout(5), path:getfd() > 2, path:dirty())
show("talk", path:send("PING\r\n"), path:receive(), path:setoption("keepalive", true))
fails("connect", function() path:connect("PATH") end)
show("close", path:close(), path:close())

-- keys and strings
show("flush", c:flushdb(), c:dbsize(), c:randomkey())
show("set", c:set("a", "one"), c:get("a"), c:get("none"), c:set("n", 41), c:incr("n"), c:incrby("n", 8), c:decr("n"), c:decrby("n", 9))
show("float", c:incrbyfloat("f", 1.25), c:incrbyfloat("f", "0.25"))
show("exists", c:exists("a"), c:exists("none"), c:type("a"), c:type("none"), c:del("f"), c:del({ "f", "none" }))
show("setnx", c:setnx("a", "x"), c:setnx("b", "two"), c:setex("c", 100, "three"), c:ttl("c") <= 100, c:psetex("c", 100000, "3"), c:pttl("c") > 0)
show("expire", c:expire("a", 100), c:expire("none", 100), c:persist("a"), c:persist("a"), c:pexpire("a", 10000), c:expireat("a", 9999999999), c:pexpireat("a", 9999999999999), c:ttl("none"))
show("mset", c:mset("k1", "v1", "k2", "v2"), c:mset({ k3 = "v3" }), c:mget("k1", "k2", "k3", "none"), c:mget({ "k1", "k3" }))
show("msetnx", c:msetnx({ k1 = "x" }), c:msetnx("k4", "v4"), c:getset("k4", "new"), c:rename("k4", "k5"), c:renamenx("k5", "k1"), c:renamenx("k5", "k6"))
show("parts", c:append("a", "more"), c:strlen("a"), c:getrange("a", 0, 2), c:setrange("a", 3, "-"), c:substr("a", 0, -1), c:setbit("bits", 7, 1), c:getbit("bits", 7), c:bitcount("bits"), c:bitop("NOT", "bits", "bits"))
local keys = c:keys("k*")
table.sort(keys)
show("keys", keys, c:move("k6", 1), c:move("none", 1), c:select(1), c:get("k6"), c:flushdb(), c:select(0))
show("bytes", c:set("bin", "\0\r\n\255"), c:get("bin") == "\0\r\n\255", c:set("empty", ""), c:get("empty"), c:set("missing", nil or ""), c:set("flag", true), c:get("flag"))
show("echo", c:echo("hello"), c:echo(5), c:ping(), #c:time(), type(c:lastsave()))

-- lists and sets
show("lists", c:rpush("l", "1", "2", "3"), c:lpush("l", "0"), c:llen("l"), c:lrange("l", 0, -1), c:lrange("none", 0, -1), c:lindex("l", 1), c:lset("l", 1, "x"), c:lrem("l", 0, "x"), c:lpop("l"), c:rpop("l"), c:lpop("none"))
show("more", c:rpushx("none", "1"), c:lpushx("l", "9"), c:linsert("l", "BEFORE", "2", "y"), c:rpoplpush("l", "m"), c:brpoplpush("l", "m", 1), c:blpop("m", 1), c:brpop("m", 1), c:ltrim("l", 0, 0), c:blpop("none", "0.01"))
show("sets", c:sadd("s", "a", "b"), c:sadd("s", "a"), c:sismember("s", "a"), c:sismember("s", "z"), c:scard("s"), c:smove("s", "t", "a"), c:smove("s", "t", "a"), c:smembers("s"), c:sunion("s", "none"), c:sinter("s", "t"), c:sdiff("s", "t"), c:sunionstore("u", "s"), c:sinterstore("u", "s"), c:sdiffstore("u", "s"), c:srandmember("s"), c:spop("s"), c:spop("s"), c:srem("t", "a", "b"))
c:rpush("sortable", "3", "1", "2")
c:mset({ w1 = 30, w2 = 20, w3 = 10, d1 = "one", d2 = "two", d3 = "three" })
show("sort", c:sort("sortable"), c:sort("sortable", { sort = "desc" }), c:sort("sortable", { limit = { 1, 2 } }), c:sort("sortable", { by = "w*" }), c:sort("sortable", { get = "d*" }), c:sort("sortable", { get = { "#", "d*" }, alpha = true, by = "w*", limit = { 0, 2 }, sort = "asc" }), c:sort("sortable", { store = "sorted" }))

-- sorted sets
show("zadd", c:zadd("z", 1, "a", 2, "b"), c:zadd("z", 3.5, "c"), c:zcard("z"), c:zscore("z", "c"), c:zscore("z", "none"), c:zincrby("z", 0.5, "c"), c:zrank("z", "c"), c:zrevrank("z", "c"), c:zcount("z", 1, 2))
show("zrange", c:zrange("z", 0, -1), c:zrange("z", 0, -1, { withscores = true }), c:zrange("z", 0, -1, "withscores"), c:zrange("z", 0, -1, "WITHSCORES"), c:zrevrange("z", 0, 0, { withscores = true }), c:zrange("z", 0, -1, {}))
show("scores", c:zrangebyscore("z", 1, 2), c:zrangebyscore("z", "-inf", "+inf", { withscores = true, limit = { 1, 1 } }), c:zrangebyscore("z", 0, 9, { limit = { offset = 0, count = 1 } }), c:zrevrangebyscore("z", 9, 0, { withscores = true }))
show("stores", c:zunionstore("zu", 2, "z", "z", { weights = { 1, 2 }, aggregate = "sum" }), c:zrange("zu", 0, -1, { withscores = true }), c:zinterstore("zi", 2, "z", "zu", { aggregate = "min" }), c:zinterstore("zi", 1, "z"), c:zremrangebyrank("zi", 0, 0), c:zremrangebyscore("zi", 0, 2), c:zrem("z", "c"))

-- hashes
show("hset", c:hset("h", "f", "v"), c:hset("h", "f", "w"), c:hsetnx("h", "f", "x"), c:hsetnx("h", "g", "1"), c:hincrby("h", "g", 2), c:hincrbyfloat("h", "g", 0.5), c:hget("h", "f"), c:hget("h", "none"), c:hexists("h", "f"), c:hexists("h", "none"), c:hlen("h"))
show("hmset", c:hmset("h", { p = "q" }), c:hmset("h", "r", "s", "t", "u"), c:hmget("h", "p", "none", "r"), c:hmget("h", { "p", "r" }), c:hgetall("h"), c:hgetall("none"), c:hkeys("h"), c:hvals("h"), c:hdel("h", "p", "r"))
show("scans", c:scan(0, { match = "sorta*", count = 1000 }), c:sscan("s2", 0), c:sadd("s2", "m"), c:sscan("s2", 0, { match = "m", count = 5 }), c:hscan("h", 0), c:hscan("h", 0, { match = "t" }), c:zscan("z", 0), c:zscan("none", 0))

-- the server
local info = c:info()
show("info", type(info.server.redis_version), type(info.memory.used_memory), info.cpu ~= nil, info.keyspace.db0 ~= nil, c:info("server").clients)
c:flushdb()
c:set("one", "1")
show("keyspace", c:info("keyspace").keyspace)
show("config", c:config("get", "maxmemory-policy"), c:config("set", "slowlog-log-slower-than", 0), c:config("resetstat"))
show("slowlog", type(c:slowlog("get")[1].id), type(c:slowlog("get")[1].duration), c:slowlog("get", 1)[1].command[1], c:slowlog("reset"))
show("client", c:client("setname", "me"), c:client("getname"))
show("scripts", c:eval("return {1, 'two', {3}}", 0), c:eval("return ARGV[1]", 1, "key", "value"), c:script("exists", "0"), c:script("load", "return 1"), c:evalsha("e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 0))

-- what goes wrong
fails("wrong type", c.incr, c, "nosuch", 1)
c:set("text", "abc")
fails("no number", c.incr, c, "text")
fails("no list", c.lpush, c, "text", 1)
fails("arguments", c.get, c)
fails("password", c.auth, c, "wrong")
fails("scripts", c.eval, c, "return redis.error_reply('MINE yes')", 0)
show("unknown", c.nosuch, pcall(function() c:nosuch() end) == false)
show("still there", c:get("text"))

-- commands of one's own
show("raw", c:raw_cmd("GET text"), c:raw_cmd("SET raw 5"), c:raw_cmd("MGET raw none"))
c:define_command("object")
c:define_command("Twice", { command = "get", request = function(client, command, key) client.requests.multibulk(client, command, key) end, response = function(value) return value .. value end })
show("defined", c:object("encoding", "raw"), c:twice("raw"), c.twice ~= nil, c:undefine_command("twice"), c.twice)
redis.commands.third = redis.command("get", { response = function(value, command, ...) return { value, command, ... } end })
redis.define_command("fourth", { command = "ECHO" })
local later = redis.connect("HOST", PORT)
show("in all", later:third("raw"), later:fourth("x"), c.third, redis.undefine_command("fourth"), redis.commands.fourth)
redis.commands.third = nil
redis.commands.broken = 5
fails("no function", redis.connect, "HOST", PORT)
redis.commands.broken = nil
c.error = function(message) error("mine: " .. message, 0) end
fails("own errors", c.incr, c, "text")
c.error = redis.error

-- pipelines
local replies, count = c:pipeline(function(p)
  show("queued", p:set("p", 1), p:incrby("p", 2))
  p:ping()
  p:exists("p")
  p:get("none")
  p:hmset("ph", { a = 1 })
  p:hgetall("ph")
end)
show("pipeline", count, unpack(replies, 1, count))
show("empty table", c:pipeline(function(p) p:lrange("none", 0, -1) end))
fails("in the block", c.pipeline, c, function(p) p:set("x", 1) error("stop", 0) end)
fails("unknown", c.pipeline, c, function(p) p:nosuch() end)
show("nothing was sent", c:get("x"))
fails("in a reply", later.pipeline, later, function(p) p:get("text") p:incr("text") end)

-- transactions
show("transaction", c:transaction(function(t)
  show("queued", t:set("t", 5), t:incr("t"))
  t:exists("t")
  t:hgetall("ph")
  show("count", t:commands_queued())
end))
show("empty", c:transaction(function() end))
show("watched", c:transaction({ watch = { "t", "p" } }, function(t) t:get("t") end))
show("watched", c:transaction({ "t", "p" }, function(t) t:get("t") end))
show("watched", c:transaction("t", function(t) t:get("t") end))
show("cas", c:transaction({ watch = "t", cas = true }, function(t)
  local value = t:get("t")
  show("read", value)
  t:multi()
  t:set("t", ("%d"):format(value * 2))
end))
show("cas without multi", c:transaction({ cas = true }, function(t) show("read", t:get("t")) end))
local tries = 0
show("again", c:transaction({ watch = "t", cas = true, retry = 3 }, function(t)
  tries = tries + 1
  if tries < 3 then later:set("t", tries) end
  t:multi()
  t:get("t")
end))
show("tries", tries)
fails("no more", c.transaction, c, { watch = "t", cas = true, retry = 1 }, function(t)
  later:incr("t")
  t:multi()
  t:get("t")
end)
show("discard", c:transaction(function(t)
  t:set("t", "lost")
  show("discarded", t:discard(), t:commands_queued())
  t:get("p")
end))
fails("exec", c.transaction, c, function(t) t:exec() end)
fails("watch", c.transaction, c, function(t) t:watch("t") end)
fails("error", c.transaction, c, function(t) t:set("t", 1) error("stop", 0) end)
fails("wrong", c.transaction, c, function(t) t:get() end)
show("by hand", c:multi(), c:set("hand", 1).queued, c:exec(), c:watch("hand"), c:unwatch(), c:multi(), c:discard())

-- messages
local listener = redis.connect("HOST", PORT)
local count = 0
for message, abort in listener:pubsub({ subscribe = { "news", "more" }, psubscribe = "w*" }) do
  count = count + 1
  show("message", message, type(abort))
  if count == 3 then
    show("published", c:publish("news", "hello"), c:publish("weather", "fine"), c:publish("other", "nobody"))
  elseif message.payload == "fine" then
    abort()
  end
end
show("listening no more", listener:ping())
local watcher = redis.connect("HOST", PORT)
local other, monitor = redis.connect("HOST", PORT), watcher.monitor
watcher.monitor = function(self)
  local answer = monitor(self)
  other:echo("hi")
  return answer
end
for message, abort in watcher:monitor_messages() do
  show("monitor", type(message.timestamp), type(message.client), message.database, message.command, message.arguments)
  abort()
end
show("network", c.requests.multibulk(c, "GET", "text"), c.network.read(c), (c.network.read(c, 5):gsub("\r\n", " ")))
c.network.write(c, "PING\r\n")
show("network", c.network.read(c, "*l"))

-- the end
local late = redis.connect({ host = "HOST", port = PORT, timeout = 0.1 })
fails("late", late.blpop, late, "none", 5)
show("quit", c:quit())
fails("after", c.get, c, "text")
