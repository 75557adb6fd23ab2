"""Dovecot's own interface to Lua, for Python: scripts from everywhere, held, called, given events, let go."""

import hashlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import (
    Event,
    Script,
    Scripts,
    pcall,
    push_event,
    register_dovecot,
    script_create_file,
    script_create_stream,
    script_create_string,
    script_has_function,
    script_init,
    script_ref,
    script_unref,
)
from tests.lua.conftest import Bench

GREETING = (
    "greeting = 'hello'\nfunction greet(whom) return greeting .. ', ' .. whom end\nfunction script_deinit() %s end"
)


def loaded(bench: Bench, source: str, **options: Any) -> Script:
    """A script from a text, initialised."""
    script = script_create_string(source, log=bench.log, dialect=Dialect.V2_4, **options)
    register_dovecot(script)
    script_init(script)
    return script


@pytest.mark.parametrize("way", ["file", "string", "stream"])
def test_a_script_comes_from_a_file_a_text_or_a_stream(bench: Bench, way: str):
    """Each has the name that Dovecot gives it."""
    source = "function name() return 'me' end"
    path = bench.script(source)
    script = {
        "file": lambda: script_create_file(path, log=bench.log, dialect=Dialect.V2_4),
        "string": lambda: script_create_string(source, log=bench.log, dialect=Dialect.V2_4),
        "stream": lambda: script_create_stream(
            io.BytesIO(source.encode()), "some stream", log=bench.log, dialect=Dialect.V2_4
        ),
    }[way]()
    names = {"file": str(path), "string": hashlib.sha1(source.encode()).hexdigest(), "stream": "some stream"}
    assert names[way] == script.name
    assert not script_has_function(script, "name")  # its main chunk has not run yet
    script_init(script)
    assert script_has_function(script, "name")
    assert pcall(script, "name") == ("me",)
    script_unref(script)


class Broken(io.RawIOBase):
    """A stream whose other end is gone."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        raise OSError(5, "Input/output error")


def test_what_cannot_be_created_says_why(bench: Bench, tmp_path: Path):
    """In Dovecot's words; a text has no name that would help anybody."""
    options: Any = {"log": bench.log, "dialect": Dialect.V2_4}
    with pytest.raises(ScriptError, match=r"^access\(/no/such\) failed: No such file or directory$"):
        script_create_file("/no/such", **options)
    with pytest.raises(ScriptError, match=r'^lua_load\(<string>\) failed: \[string "x = = 1"\]:1: unexpected symbol'):
        script_create_string("x = = 1", **options)
    with pytest.raises(ScriptError, match=r'^lua_load\(pipe\) failed: \[string "pipe"\]:1: unexpected symbol'):
        script_create_stream(io.BytesIO(b"x = = 1"), "pipe", **options)
    with pytest.raises(ScriptError, match=r"^read\(pipe\) failed: Input/output error$"):
        script_create_stream(Broken(), "pipe", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a name"):
        script_create_stream(io.BytesIO(b""), "", **options)


def test_dovecot_is_there_when_it_was_registered(bench: Bench):
    """Already for the main chunk; and what belongs to auth scripts is not."""
    look = "local seen = type(dovecot)\nfunction look() return seen, dovecot and dovecot.auth end"
    script = loaded(bench, look)
    assert pcall(script, "look") == ("table", None)
    bare = script_create_string(look, log=bench.log, dialect=Dialect.V2_4)
    script_init(bare)
    assert pcall(bare, "look") == ("nil", None)
    for one in (script, bare):
        script_unref(one)


def test_values_go_in_and_come_out_whole(bench: Bench):
    """Texts of any bytes, numbers, tables; what Python has no word for is an error, and so is the reverse."""
    script = loaded(
        bench,
        "function echo(...) return ... end function deep() local t = {} t.t = t return t end\n"
        "function odd() return print end function fail() error('no', 0) end",
    )
    text = "\udcff\0ä"
    assert pcall(script, "echo", text, b"raw", 1, 1.5, True, None, {"a": [1, {"b": text}]}) == (
        text, "raw", 1, 1.5, True, None, {"a": {1: 1, 2: {"b": text}}},
    )  # fmt: skip
    assert pcall(script, "echo") == ()
    for name, problem in {
        "deep": "lua_pcall(deep, 0, -1) failed: a result is a table of more than 20 tables within each other",
        "odd": "lua_pcall(odd, 0, -1) failed: a result is a function, a coroutine or a userdata",
        "none": "'none' is not a function",
        "fail": "lua_pcall(fail, 0, -1) failed: no\nstack traceback:",
    }.items():
        with pytest.raises(ScriptError) as caught:
            pcall(script, name)
        assert str(caught.value).startswith(problem)
    with pytest.raises(ValueError, match="a object, which is nothing for Lua"):
        pcall(script, "echo", object())
    script_unref(script)


def test_an_event_is_given_to_a_script(bench: Bench):
    """With its prefixes and fields, and those of its parents; the script may add to it, and have children of it."""
    script = loaded(
        bench,
        "function note(event)\nevent:add_int('n', 1)\nevent:log_warning('seen')\n"
        "dovecot.event(event):append_log_prefix('child: '):log_info('too')\nend",
    )
    above = Event("worker: ", {"pid": 4242, "who": "me"})
    event = push_event(script, Event("job: ", {"who": "you"}, above))
    assert pcall(script, "note", event) == ()
    fields = {"script": script.name, "pid": 4242, "who": "you", "n": 1}
    assert bench.lines == [
        ("warning", "worker: job: seen", None, fields),
        ("info", "worker: job: child: too", None, fields),
    ]
    with pytest.raises(ValueError, match="a text or a whole number"):
        push_event(script, Event(fields={"x": ["y"]}))  # type: ignore[dict-item]
    script_unref(script)


def test_the_last_who_lets_go_ends_a_script(bench: Bench):
    """Once: script_deinit runs, its error is logged, the state is freed."""
    script = loaded(bench, GREETING % "dovecot.i_info('bye') error('late', 0)")
    script_ref(script)
    script_unref(script)
    assert pcall(script, "greet", "you") == ("hello, you",)
    script_unref(script)
    script_unref(script)
    assert bench.texts[0] == "bye"
    assert bench.texts[1].startswith("script_deinit() failed: lua_pcall(script_deinit, 0, 0) failed: late\n")
    assert len(bench.texts) == 2
    assert script.engine.closed


def test_loaded_scripts_are_used_again(bench: Bench):
    """By name, for those who keep them in one place: one state, one script_init, until the last lets go."""
    scripts = Scripts()
    path = bench.script(GREETING % "" + "\nfunction script_init() dovecot.i_info('init') end")
    first, second = (script_create_file(path, log=bench.log, dialect=Dialect.V2_4, scripts=scripts) for _ in range(2))
    assert first is second
    for script in (first, second):
        register_dovecot(script)
        script_init(script)
    assert bench.texts == ["init"]
    assert list(scripts) == [first]
    script_unref(first)
    assert pcall(second, "greet", "you") == ("hello, you",)
    script_unref(second)
    assert len(scripts) == 0
    again = script_create_file(path, log=bench.log, dialect=Dialect.V2_4, scripts=scripts)
    assert again is not first
    script_unref(again)
    text, stream = "x = 1", io.BytesIO(b"y = 1")
    options: Any = {"log": bench.log, "dialect": Dialect.V2_4, "scripts": scripts}
    assert script_create_string(text, **options) is script_create_string(text, **options)
    assert script_create_stream(stream, "s", **options) is script_create_stream(stream, "s", **options)
    assert script_create_file(path, log=bench.log, dialect=Dialect.V2_4) not in list(scripts)
    for script in list(scripts):
        script_unref(script)
        script_unref(script)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("error('top', 0)", r"lua_pcall\(\w{40}\) failed: top"),
        ("function script_init() error('no', 0) end", r"lua_pcall\(script_init, 1, 0\) failed: no"),
        ("function script_load() return 1 end", r"script_load\(\) refused: expected 0 or nothing, got 1"),
    ],
)
def test_a_script_that_does_not_start_says_why(bench: Bench, source: str, problem: str):
    """As `script_init`'s error; the prefix is its caller's."""
    with pytest.raises(ScriptError, match=problem):
        loaded(bench, source)


def test_the_howto_prints_what_it_says():
    """The program in docs/howto/python-extensions.md."""
    root = Path(__file__).parents[2]
    page = (root / "docs/howto/python-extensions.md").read_text()
    program, output = re.findall(r"```python\n(.*?)```\n\nIt prints\n\n```\n(.*?)```", page, re.DOTALL)[0]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == output
