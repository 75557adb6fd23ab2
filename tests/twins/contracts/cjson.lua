-- Lua CJSON.
local cjson, safe = require("cjson"), require("cjson.safe")

local function quoted(text)
  return '"' .. text:gsub("[%c\127-\255]", function(c) return "\\" .. c:byte() end) .. '"'
end

local function shown(value, depth)
  if value == cjson.null then
    return "null"
  elseif value ~= value then
    return "not a number"
  elseif type(value) == "number" and value > 1e15 then
    return ("%.14g"):format(value)
  elseif type(value) == "table" then
    local words = {}
    for key, item in pairs(value) do
      words[#words + 1] = tostring(key) .. "=" .. shown(item)
    end
    table.sort(words)
    return "{" .. table.concat(words, ",") .. "}"
  elseif type(value) == "string" then
    return quoted(value)
  end
  return tostring(value)
end

print(type(cjson.null), cjson.null == safe.null, cjson._NAME, cjson._VERSION, tostring(cjson.null))
for _, text in ipairs({
  "1", "1.5", "-0", "1e3", "1E-2", "12345678901234567890", '"text"', "true", "false", "null", "[]", "{}", "[1,2,[3]]",
  '{"a":1,"b":{"c":null}}', ' { "a" : [ true , false ] } ', '"\\u00e9\\ud83d\\ude00\\n\\/\\""', '[null,1]', '"a/b"', '{"a":1,"a":2}',
  "", " ", "[", "[1", "[1,", "[1,]", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "{1:2}", "nul", "tru", "abc", "[1 2]",
  '{"a" 1}', '"abc', '"\\x"', '"\\u12"', '"\\ud83d"', '"\\udc00"', "01", "-", "1.", ".5", "+1", "1 2", "]", "}", ":", ",", "NaN", "Infinity", "0x10",
}) do
  local ok, value = pcall(cjson.decode, text)
  print("decode " .. text, ok, shown(value))
  print("safe", shown((safe.decode(text))), (select(2, safe.decode(text))))
end
print(pcall(cjson.decode, (("["):rep(1001))))
print(pcall(cjson.decode, (("["):rep(1001) .. ("]"):rep(1001))))
print((pcall(cjson.decode)), (pcall(cjson.decode, {})), cjson.decode(5))
for _, value in ipairs({ 1, 1.5, -3, 1e100, 2 ^ 53, 0.1, 1 / 3, "text", 'a"b\\c/d\n\t\0\127é', true, false, cjson.null, {}, { 1, 2, 3 },
  { a = 1 }, { { { 1 } } }, { [1] = 1, [3] = 3 }, { [1] = 1, a = 2 } and { [2] = 5 }, { [5.5] = 1 }, { [10] = "ten" } }) do
  print("encode", pcall(cjson.encode, value))
  print("safe", safe.encode(value))
end
print("encode", cjson.encode(nil))
for _, value in ipairs({ print, 0 / 0, 1 / 0, { [true] = 1 }, { [100] = 1 }, { f = print }, coroutine.create(print) }) do
  print("refused", pcall(cjson.encode, value))
  print("safe", safe.encode(value))
end
local deep = {}
for _ = 1, 1001 do deep = { deep } end
print("deep", pcall(cjson.encode, deep))
print(cjson.decode_max_depth(), cjson.encode_max_depth(), cjson.encode_number_precision(), cjson.encode_invalid_numbers(), cjson.decode_invalid_numbers(), cjson.encode_sparse_array())
local own = cjson.new()
own.encode_sparse_array(true)
print(own.encode({ [100] = 1 }), (pcall(cjson.encode, { [100] = 1 })))
own.encode_number_precision(3)
print(own.encode(1 / 3), cjson.encode(1 / 3))
