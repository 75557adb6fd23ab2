-- io.popen: programs, whose output is waited for without holding anybody up.

local core = ...
local host, check, waited = core.host, core.check, core.waited
local type, error, select, tostring, unpack, setmetatable = type, error, select, tostring, table.unpack or unpack, setmetatable
local tonumber = tonumber

local closed = setmetatable({}, { __mode = "k" })
local file = { __shown = function(self) return closed[self] and "file (closed)" or "file (" .. host.identity(self) .. ")" end }

local function open(self)
  if closed[self] then
    error("attempt to use a closed file", 3)
  end
  return self
end

local function read_one(self, what)
  if type(what) ~= "number" then
    what = check.string(what, 1, "read"):gsub("^%*", ""):sub(1, 1)
    if what == "n" then
      local line = waited(host.process_read(self, "l"))
      return line and tonumber(line)
    elseif what ~= "a" and what ~= "l" and what ~= "L" then
      check.complain(1, "read", "invalid format")
    end
  end
  return (waited(host.process_read(self, what)))
end

function file.read(self, ...)
  open(self)
  local count = select("#", ...)
  if count == 0 then
    return read_one(self, "l")
  end
  local got = {}
  for i = 1, count do
    got[i] = read_one(self, (select(i, ...)))
    if got[i] == nil then
      return unpack(got, 1, i)
    end
  end
  return unpack(got, 1, count)
end

function file.lines(self, what)
  open(self)
  return function()
    return read_one(self, what or "l")
  end
end

function file.write(self, ...)
  open(self)
  for i = 1, select("#", ...) do
    local ok, problem, number = waited(host.process_write(self, check.string((select(i, ...)), i, "write")))
    if not ok then
      return nil, problem, number
    end
  end
  return self
end

function file.flush(self) return open(self) end
function file.setvbuf() return true end
function file.seek() return nil, "Illegal seek", 29 end

function file.close(self)
  open(self)
  closed[self] = true
  local how, code = waited(host.process_close(self))
  if not core.has_status then
    return true
  end
  return how == "exit" and code == 0 or nil, how, code
end
file.__close = function(self) if not closed[self] then file.close(self) end end

local type_of = io.type
function io.type(object)
  if core.kinds[object] == file then
    return closed[object] and "closed file" or "file"
  end
  return type_of(object)
end

function io.popen(command, mode)
  command = check.string(command, 1, "popen")
  mode = mode == nil and "r" or check.string(mode, 2, "popen")
  if mode ~= "r" and mode ~= "w" then
    check.complain(2, "popen", "invalid mode")
  end
  return core.object(host.process_start(command, mode == "w"), file)
end
