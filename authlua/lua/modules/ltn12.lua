-- LuaSocket's "ltn12": sources, sinks, filters and pumps, which are functions that pass chunks of text on.
-- nil is the end; a second value beside it says what went wrong.

local type, select, error, unpack = type, select, error, table.unpack or unpack

local ltn12 = { _VERSION = "LTN12 1.0.3", BLOCKSIZE = 2048, filter = {}, source = {}, sink = {}, pump = {} }
local filter, source, sink, pump = ltn12.filter, ltn12.source, ltn12.sink, ltn12.pump

-- ## Filters

-- A filter out of a function that keeps its state in what it returns second.
function filter.cycle(low, state, extra)
  return function(chunk)
    local out
    out, state = low(state, chunk, extra)
    return out
  end
end

local function both(first, second)
  local ended = ""
  local held = nil
  return function(chunk)
    if chunk == nil then
      -- the first may still have something, which comes before the second's end
      if ended == nil then
        return second(nil)
      end
      local last = first(nil)
      if last ~= nil then
        return second(last)
      end
      ended = nil
      return second(nil)
    end
    held = first(chunk)
    if held == nil then
      return nil
    end
    return second(held)
  end
end

function filter.chain(...)
  local chained = (...)
  for i = 2, select("#", ...) do
    chained = both(chained, (select(i, ...)))
  end
  return chained
end

-- ## Sources

function source.empty()
  return function() return nil end
end

function source.error(problem)
  return function() return nil, problem end
end

function source.file(handle, problem)
  if not handle then
    return source.error(problem or "unable to open file")
  end
  return function()
    local chunk = handle:read(ltn12.BLOCKSIZE)
    if not chunk then
      handle:close()
    end
    return chunk
  end
end

-- A source may name the function that comes after it; this hides that.
function source.simplify(step)
  return function()
    local chunk, following = step()
    step = following or step
    if not chunk then
      return nil, following
    end
    return chunk
  end
end

function source.string(text)
  if not text then
    return source.empty()
  end
  local at = 1
  return function()
    local chunk = text:sub(at, at + ltn12.BLOCKSIZE - 1)
    at = at + ltn12.BLOCKSIZE
    if chunk ~= "" then
      return chunk
    end
    return nil
  end
end

function source.table(list)
  local at = 0
  return function()
    at = at + 1
    return list[at]
  end
end

-- Calling it with a chunk puts that back in front.
function source.rewind(inner)
  local returned = {}
  return function(chunk)
    if chunk then
      returned[#returned + 1] = chunk
      return
    end
    local count = #returned
    if count == 0 then
      return inner()
    end
    chunk, returned[count] = returned[count], nil
    return chunk
  end
end

local function filtered(inner, change)
  local problem, ended
  local flushing = false
  return function()
    if ended then
      return nil, problem
    end
    while true do
      local chunk
      if flushing then
        chunk = change(nil)
        if chunk == nil then
          ended = true
        end
        return chunk
      end
      chunk, problem = inner()
      if problem then
        return nil, problem
      elseif chunk == nil then
        flushing = true
      else
        local out = change(chunk)
        if out == nil then
          error("filter returned inappropriate nil")
        elseif out ~= "" or chunk == "" then
          return out
        end
      end
    end
  end
end

function source.chain(inner, ...)
  for i = 1, select("#", ...) do
    inner = filtered(inner, (select(i, ...)))
  end
  return inner
end

function source.cat(...)
  local list, at = { ... }, 1
  return function()
    while list[at] do
      local chunk, problem = list[at]()
      if chunk then
        return chunk
      elseif problem then
        return nil, problem
      end
      at = at + 1
    end
  end
end

-- ## Sinks

function sink.table(list)
  list = list or {}
  return function(chunk)
    if chunk then
      list[#list + 1] = chunk
    end
    return 1
  end, list
end

function sink.null()
  return function() return 1 end
end

function sink.error(problem)
  return function() return nil, problem end
end

function sink.file(handle, problem)
  if not handle then
    return sink.error(problem or "unable to open file")
  end
  return function(chunk)
    if chunk then
      return handle:write(chunk)
    end
    handle:close()
    return 1
  end
end

function sink.simplify(step)
  return function(chunk, problem)
    local ok, following = step(chunk, problem)
    if not ok then
      return nil, following
    end
    step = following or step
    return 1
  end
end

-- What a filter has kept back is asked for with an empty chunk, and at the end with nil, until it gives that back.
local function through(change, inner)
  return function(chunk, problem)
    if chunk == "" then
      return 1
    end
    local last = chunk and ""
    local out = change(chunk)
    while true do
      local ok, trouble = inner(out, problem)
      if not ok then
        return nil, trouble
      elseif out == last then
        return 1
      end
      out = change(last)
    end
  end
end

function sink.chain(...)
  local count = select("#", ...)
  local last = (select(count, ...))
  for i = count - 1, 1, -1 do
    last = through((select(i, ...)), last)
  end
  return last
end

-- ## Pumps

function pump.step(from, to)
  local chunk, trouble = from()
  local ok, problem = to(chunk, trouble)
  if chunk and ok then
    return 1
  end
  return nil, trouble or problem
end

function pump.all(from, to, step)
  step = step or pump.step
  while true do
    local ok, problem = step(from, to)
    if not ok then
      if problem then
        return nil, problem
      end
      return 1
    end
  end
end

return ltn12
