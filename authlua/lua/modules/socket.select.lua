-- LuaSocket's `socket.select`.

local core = ...
local host, check, waited, holder, kinds = core.host, core.check, core.waited, core.holder, core.kinds
local ipairs, select, type, unpack = ipairs, select, type, table.unpack or unpack
local concat, sort = table.concat, table.sort

-- The objects of `list` that have a descriptor, behind those that are there; `letter` says what for.
local function collect(objects, list, letter)
  local i = 1
  while list and list[i] ~= nil do
    local object = list[i]
    local fd = object.getfd and object:getfd()
    if type(fd) == "number" and fd >= 0 then
      objects[#objects + 1] = { object = object, item = kinds[object] and object or fd, fd = fd, mode = letter }
    end
    i = i + 1
  end
end

local function add(set, object)
  local place = #set + 1
  set[place], set[object] = object, place + 0.0
end

return function(...)
  local count = select("#", ...)
  local reading, writing, seconds = ...
  for i = 1, 2 do
    local list = (select(i, ...))
    if list ~= nil and type(list) ~= "table" then
      check.complain(i, "socket.select", "table expected, got " .. type(list))
    end
  end
  seconds = seconds == nil and -1 or check.number(seconds, 3, "socket.select", count)
  local objects, can_read, can_write = {}, {}, {}
  collect(objects, reading, "r")
  collect(objects, writing, "w")
  local items, modes, dirty = {}, {}, {}
  for i, one in ipairs(objects) do
    local object = one.object
    items[i], modes[i] = one.item, one.mode
    if one.mode == "r" and object.dirty and object:dirty() then
      dirty[i], seconds = true, 0
      add(can_read, object)
    end
  end
  local flags = waited(host.select(holder(), seconds, concat(modes), unpack(items)))
  local ready = {}
  for i, one in ipairs(objects) do
    if not dirty[i] and flags:byte(i) == 49 then
      ready[#ready + 1] = one
    end
  end
  sort(ready, function(one, other) return one.fd < other.fd end)
  for _, one in ipairs(ready) do
    add(one.mode == "r" and can_read or can_write, one.object)
  end
  if #can_read + #can_write == 0 then
    return can_read, can_write, "timeout"
  end
  return can_read, can_write, nil
end
