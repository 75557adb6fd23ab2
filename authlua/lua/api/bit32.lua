-- The library `bit32` of Lua 5.2, which 5.3 has too unless it is built without. This file is for 5.3 alone.

local core = ...
local integer = core.integer
local error, select = error, select

if bit32 then
  return
end

local ALL = 0xffffffff
local bit32 = {}

-- To the left by `by`, to the right when that is negative.
local function shifted(x, by)
  if by <= -32 or by >= 32 then
    return 0
  elseif by < 0 then
    return x >> -by
  end
  return x << by & ALL
end

local function rotated(x, by)
  by = by & 31
  return (x << by | x >> 32 - by) & ALL
end

-- The mask of a field, which must lie within the number; `position` is that of the argument where it begins.
local function mask_of(from, width, position, name)
  local problem = from < 0 and { position, "field cannot be negative" }
    or width <= 0 and { position + 1, "width must be positive" }
  if problem then
    error("bad argument #" .. problem[1] .. " to '" .. name .. "' (" .. problem[2] .. ")", 3)
  elseif from + width > 32 then
    error("trying to access non-existent bits", 3)
  end
  return (1 << width) - 1
end

local function all(name, start, join)
  return function(...)
    local result = start
    for i = 1, select("#", ...) do
      result = join(result, integer((select(i, ...)), i, name) & ALL)
    end
    return result
  end
end

local function both(x, y)
  return x & y
end

bit32.band = all("band", ALL, both)
bit32.bor = all("bor", 0, function(x, y) return x | y end)
bit32.bxor = all("bxor", 0, function(x, y) return x ~ y end)

local band = all("btest", ALL, both)
function bit32.btest(...)
  return band(...) ~= 0
end

function bit32.bnot(x)
  return ~integer(x, 1, "bnot") & ALL
end

function bit32.lshift(x, by)
  return shifted(integer(x, 1, "lshift") & ALL, integer(by, 2, "lshift"))
end

function bit32.rshift(x, by)
  return shifted(integer(x, 1, "rshift") & ALL, -integer(by, 2, "rshift"))
end

function bit32.arshift(x, by)
  x, by = integer(x, 1, "arshift") & ALL, integer(by, 2, "arshift")
  if by < 0 or x < 0x80000000 then
    return shifted(x, -by)
  end
  return by >= 32 and ALL or (x >> by | ~(ALL >> by)) & ALL
end

function bit32.lrotate(x, by)
  return rotated(integer(x, 1, "lrotate") & ALL, integer(by, 2, "lrotate"))
end

function bit32.rrotate(x, by)
  return rotated(integer(x, 1, "rrotate") & ALL, -integer(by, 2, "rrotate"))
end

function bit32.extract(x, from, width)
  x, from = integer(x, 1, "extract") & ALL, integer(from, 2, "extract")
  width = width == nil and 1 or integer(width, 3, "extract")
  return x >> from & mask_of(from, width, 2, "extract")
end

function bit32.replace(x, value, from, width)
  x, value, from = integer(x, 1, "replace") & ALL, integer(value, 2, "replace") & ALL, integer(from, 3, "replace")
  width = width == nil and 1 or integer(width, 4, "replace")
  local mask = mask_of(from, width, 3, "replace")
  return x & ~(mask << from) | (value & mask) << from
end

_G.bit32, package.loaded.bit32 = bit32, bit32
