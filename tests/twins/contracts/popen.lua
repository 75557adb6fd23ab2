-- io.popen.
local function show(label, ...)
  local words = {}
  for i = 1, select("#", ...) do
    words[i] = (tostring((select(i, ...))):gsub("0x%x+", ""):gsub("\n", "|"))
  end
  print(label .. "\t" .. table.concat(words, "\t"))
end

local p = io.popen("printf 'one\\ntwo\\n\\n3 rest'")
show("file", type(p), io.type(p), p)
show("read", p:read())
show("line", p:read("*L"))
show("empty", p:read("l"))
show("count", p:read(3))
show("all", p:read("*a"))
show("end", p:read("*a"), p:read(), p:read(1))
show("close", p:close())
show("closed", io.type(p), p)
show("closed", (pcall(p.read, p)))
show("status", io.popen("exit 3"):close())
show("signal", io.popen("kill -9 $$"):close())
for line in io.popen("seq 3"):lines() do show("lines", line) end
show("several", io.popen("printf '1\\n2\\n3'"):read("l", "l", "l", "l"))
local w = io.popen("cat >/dev/null", "w")
show("write", w:write("a", 1, ("x"):rep(200000)) == w)
show("close", w:close())
show("mode", (pcall(io.popen, "true", "x")))
show("big", #io.popen("head -c 300000 /dev/zero"):read("*a"))
show("type", io.type(io.stdout), io.type(1))
