-- A "json" for where there is none: decode, encode and null, as cjson has them.

local cjson = require("cjson")
return { decode = cjson.decode, encode = cjson.encode, null = cjson.null, _VERSION = cjson._VERSION }
