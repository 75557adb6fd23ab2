"""The standard library is that of the interpreters that distributions have, whatever the wheel was built with."""

import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

from tests.lua.conftest import Bench

NUMBERS = ["0", "-0.0", "1", "-1", "0.5", "-2.5", "3", "1e-320", "1e308", "-1e308", "1/0", "-1/0", "710.5", "'7'"]
WORDS = ["0", "1", "-1", "0xff00ff", "0x80000000", "0xffffffff", "1 << 40", "'6'", "5.0"]
PLACES = ["0", "1", "-1", "31", "32", "-32", "40"]

MATH = [
    *(f"math.{name}({x})" for name in ("log10", "cosh", "sinh", "tanh", "frexp") for x in NUMBERS),
    *(f"math.{name}({x}, {y})" for name in ("pow", "atan2") for x, y in product(NUMBERS, NUMBERS[:8])),
    *(f"math.ldexp({x}, {y})" for x in NUMBERS for y in ("0", "1", "-1", "1024", "-1074", "5000", "2.0")),
    "math.pow('x', 1)", "math.pow({}, 1)", "math.ldexp(1, 1.5)", "math.ldexp(1, 'x')", "math.log10(true)",
]  # fmt: skip
BIT32 = [
    *(f"bit32.{name}({x}, {y})" for name in ("band", "bor", "bxor", "btest") for x, y in product(WORDS, WORDS)),
    *(f"bit32.{name}({x}, {by})" for name in ("lshift", "rshift", "arshift", "lrotate", "rrotate")
      for x, by in product(WORDS, PLACES)),
    *(f"bit32.bnot({x})" for x in WORDS),
    *(f"bit32.extract(0xf0e1d2c3, {at})" for at in ("0", "31", "4, 8", "0, 32", "1, 32", "-1", "3, 0", "32", "'x'")),
    *(f"bit32.replace(0xf0e1d2c3, {value}, {at})" for value in ("0", "0xffff")
      for at in ("0", "31", "4, 8", "0, 32", "1, 32", "-1", "3, 0", "32", "{}")),
    "bit32.band()", "bit32.bor()", "bit32.bnot({})", "bit32.band(1, 1.5)", "package.loaded.bit32 == bit32",
]  # fmt: skip
OLD = ["unpack({ 1, 2, 3 }, 2)", "loadstring('return 7')()", "table.maxn({ 1, [7] = 2, x = 3 })", "table.maxn({})",
       "math.log10(1000)", "package.loaders == package.searchers"]  # fmt: skip

ALIKE = {"5.2": OLD, "5.3": MATH + BIT32, "5.4": MATH}

PROGRAM = """
local function shown(ok, ...)
  local words = { tostring(ok) }
  for i = 1, select("#", ...) do words[#words + 1] = tostring((select(i, ...))) end
  return (table.concat(words, " "):gsub("^false [^ ]*:%d+:", "false"):gsub("nan", "-nan"):gsub("%-%-nan", "-nan"))
end
"""


@pytest.mark.parametrize("version", ALIKE)
def test_what_a_lua_keeps_of_the_one_before(bench: Bench, tmp_path: Path, version: str) -> None:
    """`math.pow` and its like in 5.3 and 5.4, `bit32` in 5.3, `unpack` in 5.2: each result and error of them all."""
    interpreter = shutil.which(f"lua{version}")
    if interpreter is None:
        pytest.skip(f"lua{version} is missing: tests/e2e/install-clients, as root on Debian")
    expressions = ALIKE[version]
    lines = [f"print(shown(pcall(function() return {expression} end)))" for expression in expressions]
    program = tmp_path / "program.lua"
    program.write_text(PROGRAM + "\n".join(lines))
    done = subprocess.run([interpreter, str(program)], capture_output=True, text=True, check=True)
    bench.passdb(program.read_text(), version=version)
    expected = dict(zip(expressions, done.stdout.splitlines(), strict=True))
    assert expected == dict(zip(expressions, bench.texts, strict=True))
