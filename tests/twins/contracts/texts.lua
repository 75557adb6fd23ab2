-- What never waits: ltn12, mime, socket.url, socket.headers.
local ltn12, mime, url, headers = require("ltn12"), require("mime"), require("socket.url"), require("socket.headers")

local function quoted(text)
  return '"' .. text:gsub("[%c\127-\255]", function(c) return "\\" .. c:byte() end) .. '"'
end

local function show(label, ...)
  local words = {}
  for i = 1, select("#", ...) do
    local word = (select(i, ...))
    words[i] = type(word) == "string" and quoted(word) or tostring(word)
  end
  print(label .. "\t" .. table.concat(words, "\t"))
end

local function sorted(fields)
  local words = {}
  for name, value in pairs(fields or {}) do
    words[#words + 1] = tostring(name) .. "=" .. tostring(value)
  end
  table.sort(words)
  return table.concat(words, "; ")
end

for _, text in ipairs({
  "http://user:pass@example.com:8080/a/b;p?q=1#f", "http://[::1]:80/", "http://[2001:db8::1]/x", "//host/path", "/only/path",
  "relative", "mailto:someone@example.com", "http://host", "http://host?q", "http://host#f", "http://user@host:/", "",
  "http://:80/", "a:b@c", "http://a:b:c@host/", "?query", "#fragment", ";params", "http://host/a?b?c#d#e", "HTTP://Host/",
}) do
  local parsed, problem = url.parse(text)
  show("parse " .. text, sorted(parsed), problem)
  if parsed then
    show("build", url.build(parsed))
  end
end
show("defaults", sorted(url.parse("//h", { scheme = "x", path = "/", port = 1 })))
show("nothing", url.parse(nil))
show("build", url.build({ host = "h", path = "/p", scheme = "s", port = 1, user = "u", password = "p", query = "q", fragment = "f", params = "x" }))
show("build", url.build({ path = "x" }), url.build({ host = "::1", path = "/" }), url.build({ authority = "a:1", path = "/" }), url.build({ host = "h", userinfo = "u:p" }))
for _, relative in ipairs({
  "g:h", "g", "./g", "g/", "/g", "//g", "?y", "g?y", "#s", "g#s", "g?y#s", ";x", "g;x", "g;x?y#s", "", ".", "./", "..",
  "../", "../g", "../..", "../../", "../../g", "./../g", "./g/.", "g/./h", "g/../h", "g;x=1/./y", "g?y/./x", "http://other/",
}) do
  show("absolute " .. relative, url.absolute("http://a/b/c/d;p?q", relative))
end
show("absolute", url.absolute("http://a", "b"), url.absolute("http://a/", "b"), url.absolute(url.parse("http://a/x/y"), "z"), url.absolute("", "x"))
show("escape", url.escape("a b/c?ü_-."), url.unescape("a%20b%2Fc%zz%41"))
for _, path in ipairs({ "/a/b%20c/", "a/b", "/", "", "//x//y" }) do
  local segments = url.parse_path(path)
  show("path " .. path, table.concat(segments, "|"), segments.is_absolute, segments.is_directory, url.build_path(segments), url.build_path(segments, 1))
end
show("segment", url.build_path({ "a b", "c:d@e", "ü" }))
show("headers", headers.canonic["content-type"], headers.canonic["www-authenticate"], headers.canonic["te"], headers.canonic["nosuch"])
local count = 0
for _ in pairs(headers.canonic) do count = count + 1 end
show("headers", count)

for _, text in ipairs({ "", "a", "ab", "abc", "abcd", "\0\255\128", ("long text "):rep(20) }) do
  show("b64", mime.b64(text))
  show("unb64", mime.unb64((mime.b64(text))))
  show("b64 rest", mime.b64(text, "x"))
  show("qp", mime.qp(text))
end
show("b64", mime.b64(nil), mime.b64("", nil), mime.b64("ab", "cd"))
show("unb64", mime.unb64("YW Jj\r\nZA==", ""), mime.unb64("YWJjZ", "A"), mime.unb64("YWJj!?"), mime.unb64("YQ"), mime.unb64(nil))
show("unb64", mime.unb64("YQ==YWJj"))
for _, text in ipairs({ "a=b", "trailing \r\n", "tab\t\r\n", "end ", "caf\195\169", "one\r\ntwo", "lone\rcr", "lone\nlf", " \r\n \r\n", "a\r", "\r", "= =" }) do
  show("qp", mime.qp(text))
  show("qp", mime.qp(text, ""))
  show("qp", mime.qp(text, "x", "MARK"))
  show("unqp", mime.unqp((mime.qp(text))))
end
show("unqp", mime.unqp("a=3D=\r\nb=zz=4"), mime.unqp("a=", "3D"), mime.unqp("a=3", ""), mime.unqp("x=\r", ""), mime.unqp(nil), mime.unqp("=3d"), mime.unqp("a\rb\r"))
show("wrp", mime.wrp(5, "hello world\r\nnext", 5))
show("wrp", mime.wrp(5, nil, 5), mime.wrp(3, nil, 5), mime.wrp(76, "x"), mime.wrp(0, "x", 4))
show("qpwrp", mime.qpwrp(8, "hello =3D world\nnext line", 8))
show("qpwrp", mime.qpwrp(8, nil, 8), mime.qpwrp(3, nil, 8))
show("eol", mime.eol(0, "a\nb\rc\r\nd\n\re\n\nf\r\rg", "|"))
show("eol", mime.eol(0, "a\r", "|"), mime.eol(13, "\nb", "|"), mime.eol(13, "\rb", "|"), mime.eol(0, nil, "|"), mime.eol(0, "x\n"))
show("dot", mime.dot(2, ".a\r\n.b\r\n..c.\r\n."))
show("dot", mime.dot(0, ".x"), mime.dot(1, "\n."), mime.dot(2, nil), mime.dot(0, "a\n.b"))

local function through(filter, ...)
  local out = {}
  ltn12.pump.all(ltn12.source.chain(ltn12.source.table({ ... }), filter), (ltn12.sink.table(out)))
  return table.concat(out, "|")
end
show("filter", through(mime.encode("base64"), "ab", "cde", "f"))
show("filter", through(mime.decode("base64"), "YW", "JjZ", "A=="))
show("filter", through(mime.encode("quoted-printable"), "a=", " \r", "\nx"))
show("filter", through(mime.encode("quoted-printable", "binary"), "a\r\nb"))
show("filter", through(mime.decode("quoted-printable"), "a=", "3", "D=\r", "\nb"))
show("filter", through(mime.normalize(), "a\nb", "\r", "\nc"), through(mime.normalize("\n"), "a\r\nb"))
show("filter", through(mime.stuff(), ".a\r", "\n.b"))
show("filter", through(mime.wrap(4), "hello world"), through(mime.wrap("text", 5), "hello world"), through(mime.wrap("base64"), ("x"):rep(80)))
show("filter", through(ltn12.filter.chain(mime.encode("base64"), mime.wrap("base64", 8)), "hello ", "world, this is long"))
local _, problem = pcall(function() mime.encode("nosuch") end)
show("unknown", problem:match("unknown.*"))

local function all(source)
  local out = {}
  for _ = 1, 20 do
    local chunk, problem = source()
    if chunk == nil then
      return table.concat(out, "|"), problem
    end
    out[#out + 1] = chunk
  end
end
show("source", all(ltn12.source.string("text")), all(ltn12.source.string("")), all(ltn12.source.string(nil)))
show("source", all(ltn12.source.error("bad")))
show("source", all(ltn12.source.empty()))
show("source", all(ltn12.source.table({ "a", "b" })))
show("source", all(ltn12.source.cat(ltn12.source.string("a"), ltn12.source.empty(), ltn12.source.string("b"))))
show("source", all(ltn12.source.file(nil, "no file")))
show("source", all(ltn12.source.file(nil)))
show("source", all(ltn12.source.file(io.open("/etc/hostname"))))
local long = ltn12.source.string(("x"):rep(5000))
show("source", #long(), #long(), #long(), long())
local back = ltn12.source.rewind(ltn12.source.string("a"))
back("first")
back("second")
show("rewind", back(), back(), back(), back())
local simple = ltn12.source.simplify(function()
  return "one", function() return "two", function() return nil, "over" end end
end)
show("simplify", simple(), simple(), simple())
show("chain", all(ltn12.source.chain(ltn12.source.table({ "a", "b" }), string.upper and function(chunk) return chunk and chunk:upper() end)))
show("chain", all(ltn12.source.chain(ltn12.source.error("early"), function(chunk) return chunk end)))
local sink, list = ltn12.sink.table()
show("sink", sink("a"), sink("b"), sink(nil), table.concat(list, "|"))
show("sink", ltn12.sink.null()("x"), ltn12.sink.error("bad")("x"))
show("sink", ltn12.sink.file(nil, "no file")("x"))
sink, list = ltn12.sink.table()
local chained = ltn12.sink.chain(mime.encode("base64"), sink)
show("sink", chained("ab"), chained("c"), chained("d"), chained(nil), table.concat(list, "|"))
local turning = ltn12.sink.simplify(function() return 1, function() return nil, "full" end end)
show("sink", turning("a"), turning("b"))
show("pump", ltn12.pump.all(ltn12.source.string("x"), ltn12.sink.null()))
show("pump", ltn12.pump.all(ltn12.source.error("bad"), ltn12.sink.null()))
show("pump", ltn12.pump.all(ltn12.source.string("x"), ltn12.sink.error("full")))
show("pump", ltn12.pump.step(ltn12.source.empty(), ltn12.sink.null()))
show("versions", ltn12._VERSION, mime._VERSION, url._VERSION, ltn12.BLOCKSIZE)
