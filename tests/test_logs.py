"""The log: one event is one line in every format, and nothing that must not be seen is on it."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.logs import ABOUT, ATOMIC, Form, open_log, teller, writer_of
from authlua.secret import Secret

FORMATS = ["text", "json", "logfmt", "journal", "dovecot"]


class Pipe:
    """A descriptor to log to, and what arrived there."""

    def __init__(self) -> None:
        self._out, self.fd = os.pipe()

    def lines(self) -> list[str]:
        """The lines written so far."""
        os.set_blocking(self._out, False)
        try:
            data = os.read(self._out, 1 << 20)
        except BlockingIOError:
            return []
        assert data.endswith(b"\n")
        return data.decode("utf-8").removesuffix("\n").split("\n")

    def close(self) -> None:
        os.close(self._out)
        os.close(self.fd)


@pytest.fixture
def pipe():
    """A fresh pipe."""
    made = Pipe()
    yield made
    made.close()


def test_text_is_readable_and_quotes_what_has_spaces(pipe):
    """Time, level, event, fields: as a person reads them."""
    open_log("text", "info", pipe.fd).info("auth_request_finished", user="timo", reason="no such user", duration=0.25)
    [line] = pipe.lines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} info    "
        r'auth_request_finished user=timo reason="no such user" duration=0\.25',
        line,
    )


def test_json_is_an_object_a_line(pipe):
    """Numbers and switches stay what they are; what is unset is left out."""
    open_log("json", "info", pipe.fd).warning("ready", sockets=6, cached=False, user="Jörg", rip=None)
    [line] = pipe.lines()
    event = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time"))
    assert event == {"level": "warning", "event": "ready", "sockets": 6, "cached": False, "user": "Jörg"}


def test_logfmt_escapes_once(pipe):
    """What reads it finds the line breaks of a traceback, and no backslashes."""
    open_log("logfmt", "info", pipe.fd).error('db-lua: "x"\n\tin main', at="a\nb")
    [line] = pipe.lines()
    assert line.endswith(' event="db-lua: \\"x\\"\\n\\tin main" at="a\\nb"')


def test_logfmt_names_everything(pipe):
    """Every part is a pair."""
    open_log("logfmt", "info", pipe.fd).error("script failed", at="auth.lua:3")
    [line] = pipe.lines()
    assert re.fullmatch(r'time=[\dT:.-]+Z level=error event="script failed" at=auth\.lua:3', line)


def test_the_journal_is_told_the_priority(pipe):
    """The journal has its own clock."""
    log = open_log("journal", "debug", pipe.fd)
    log.debug("a")
    log.info("a")
    log.warning("a")
    log.error("a", user="t")
    assert pipe.lines() == ["<7>a", "<6>a", "<4>a", "<3>a user=t"]


def test_dovecot_is_told_the_type_of_the_line(pipe):
    """A byte 1, then 1 for debug, 2 for info, 3 for a warning, 4 for an error."""
    log = open_log("dovecot", "debug", pipe.fd)
    log.debug("a")
    log.info("a")
    log.warning("a")
    log.error("a", user="t")
    assert pipe.lines() == ["\1\1a", "\1\2a", "\1\3a", "\1\4a user=t"]


def test_what_is_below_the_level_is_not_written(pipe):
    """``level`` is the lowest that counts."""
    log = open_log("text", "warning", pipe.fd)
    log.debug("a")
    log.info("a")
    assert pipe.lines() == []
    log.warning("a")
    assert len(pipe.lines()) == 1


def test_a_bound_logger_tells_its_fields_with_every_event(pipe):
    """A request's fields are bound once."""
    open_log("journal", "info", pipe.fd).bind(user="timo", session="s1").info("unknown user", rip="192.0.2.1")
    assert pipe.lines() == ["<6>unknown user user=timo session=s1 rip=192.0.2.1"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bound", [{}, {"server": "a"}])
def test_a_teller_writes_what_the_method_writes(pipe, bound, format):
    """Without the way through keyword arguments."""
    log = open_log(format, "info", pipe.fd)
    log = log.bind(**bound) if bound else log
    fields = {"user": "timo", "reason": "no such user", "code": None, "empty": "", "duration": 12}
    log.info("finished", **fields)
    tell = teller(log, "info", Form("finished", list(fields)))
    assert tell is not None
    tell(list(fields.values()))
    first, second = (re.sub(r"(time\W+)?\d{4}-[^ ,]+( [\d:.]+)?", "", line) for line in pipe.lines())
    assert first == second
    if format == "journal":
        assert second.endswith(
            "finished"
            + "".join(f" {k}={v}" for k, v in bound.items())
            + ' user=timo reason="no such user" empty="" duration=12'
        )


def test_nobody_is_told_what_is_below_the_level(pipe):
    """So that it need not even be put together."""
    form = Form("finished", ["user"])
    assert teller(open_log("text", "warning", pipe.fd), "info", form) is None
    assert teller(open_log("text", "warning", pipe.fd), "warning", form) is not None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["event", "self", "name", "fields", "level", "time"])
def test_a_field_may_have_any_name(pipe, format, name):
    """Scripts choose the names of fields; none of them can break the line or replace what happened."""
    log = open_log(format, "debug", pipe.fd)
    log.bind(**{name: "a"}).info("happened", **{name: "b"})
    log.debug("happened", **{name: "b"})
    lines = pipe.lines()
    assert all("happened" in line for line in lines)
    if format == "json":
        assert [json.loads(line)["level"] for line in lines] == ["info", "debug"]
        assert all(json.loads(line)["time"].endswith("Z") for line in lines)


@pytest.mark.parametrize("format", FORMATS)
def test_a_secret_shows_as_hidden(pipe, format):
    """Even where somebody logs one by mistake."""
    open_log(format, "info", pipe.fd).info("oops", password=Secret(b"swordfish"))
    [line] = pipe.lines()
    assert "<hidden>" in line
    assert "swordfish" not in line


@pytest.mark.parametrize("format", FORMATS)
def test_undecodable_bytes_and_odd_values_never_fail(pipe, format):
    """A log line must not end a request."""
    log = open_log(format, "info", pipe.fd)
    log.info("a", user=b"\xff\0".decode("utf-8", "surrogateescape"), raw=b"\xfe", many=("x", 1), none=None, odd=object)
    [line] = pipe.lines()
    assert "xff" in line
    assert "xfe" in line


@pytest.mark.parametrize("format", FORMATS)
def test_a_traceback_stays_on_its_line(pipe, format):
    """One event, one line, also when something broke."""
    log = open_log(format, "info", pipe.fd)
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        log.exception("internal error", user="t")
    [line] = pipe.lines()
    assert "ValueError: broken" in line
    assert "test_logs.py" in line


@given(st.text(), st.text(), st.text())
def test_no_name_or_value_can_begin_a_line(event, name, value):
    """Users choose names and passwords, scripts choose field names and texts: none of them can forge an event."""
    pipe = Pipe()
    try:
        for format in FORMATS:
            open_log(format, "info", pipe.fd).bind(**{f"_{name}": value}).info(event, user=value)
            [line] = pipe.lines()
            assert len(line.splitlines()) == 1
            assert line.lstrip("\1\2").isprintable() or format == "json"
    finally:
        pipe.close()


@given(st.lists(st.text(alphabet=st.characters(max_codepoint=0x100)) | st.integers() | st.none(), max_size=4))
def test_each_value_is_quoted_or_not_whatever_others_there_are(values):
    """Where none needs quotes, one look at all of them together tells; an empty one always needs them."""
    names = [f"a{number}" for number in range(len(values))]
    assert Form("a", [*names, "b"]).pairs([*values, ""]) == Form("a", names).pairs(values) + ' b=""'


@given(st.text(alphabet=st.characters(max_codepoint=0x3000)), st.binary())
def test_json_holds_any_text(text, raw):
    """What can be told as text comes back the same; bytes that are none are shown as \\xNN."""
    pipe = Pipe()
    try:
        open_log("json", "info", pipe.fd).info("a", text=text, raw=raw.decode("utf-8", "surrogateescape"))
        [line] = pipe.lines()
        event = json.loads(line)
        assert event["text"] == text
        assert event["raw"] == raw.decode("utf-8", "backslashreplace")
    finally:
        pipe.close()


@pytest.mark.parametrize("format", FORMATS)
def test_a_long_line_is_one_line_and_letters_stay_letters(pipe, format):
    """Dovecot makes several of a very long one; bytes that steer a terminal are shown."""
    open_log(format, "info", pipe.fd).info("x" * 20_000 + "\n\r\x01\x7fgrüße")
    [line] = pipe.lines()
    assert "x" * 20_000 in line
    assert "grüße" in (json.loads(line)["event"] if format == "json" else line)
    assert line.count("\x01") == (format == "dovecot")


def test_auto_is_the_journal_where_the_journal_reads(pipe, monkeypatch):
    """systemd names the stream it reads in JOURNAL_STREAM."""
    stat = os.fstat(pipe.fd)
    monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
    open_log("auto", "info", pipe.fd).info("a")
    assert pipe.lines() == ["<6>a"]
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    open_log("auto", "info", pipe.fd).info("a")
    assert pipe.lines()[0].endswith("info    a")


def test_colours_are_for_terminals():
    """Only a terminal gets them, and values are still escaped."""
    reader, terminal = pty.openpty()
    try:
        open_log("text", "info", terminal).warning("a", user="\033[2J")
        line = os.read(reader, 4096)
    finally:
        os.close(reader)
        os.close(terminal)
    assert b"\033[33mwarning\033[0m \033[1ma\033[0m" in line
    assert b"\033[2J" not in line


def test_lines_that_could_not_be_written_are_counted(pipe):
    """A log that is full must not stop the server, and must not hide that something is missing."""
    os.set_blocking(pipe.fd, False)
    log = open_log("journal", "info", pipe.fd)
    for _ in range(3000):
        log.info("x" * 100)
    written = len(pipe.lines())
    assert written < 3000
    log.info("back")
    assert pipe.lines() == [f"<3>log_lines_lost count={3000 - written}", "<6>back"]


def test_importing_the_module_does_not_import_structlog():
    """What only prints a help text does not pay for a log."""
    code = "import sys, authlua.logs; sys.exit('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lines_held_together_are_written_in_order_and_whole(pipe):
    """However many there are, no write is longer than what a pipe keeps in one piece."""
    log = open_log("text", "info", pipe.fd)
    writer = writer_of(log)
    assert writer is not None
    writer.hold()
    log.info("first")
    assert pipe.lines() == []
    for number in range(2 * ATOMIC // 100):
        log.info("more", number=number, filling="x" * 100)
    writer.release()
    lines = pipe.lines()
    assert lines[0].endswith(" first")
    assert [line.split()[4] for line in lines[1:]] == [f"number={number}" for number in range(len(lines) - 1)]
    log.info("at once")
    assert len(pipe.lines()) == 1


def test_no_held_write_is_longer_than_a_pipe_keeps_whole(pipe, monkeypatch):
    """Workers write to the same descriptor."""
    sizes: list[int] = []

    def write(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    log = open_log("text", "info", pipe.fd)
    writer = writer_of(log)
    assert writer is not None
    writer.hold()
    for _ in range(100):
        log.info("more", filling="x" * 100)
    writer.release()
    assert len(sizes) > 1
    assert max(sizes) <= ATOMIC


def test_what_people_read_in_front_programs_find_in_fields(pipe: Pipe) -> None:
    """Once in either; a script's field cannot get in front."""
    fields = {"user": "timo", "rip": "::1", "service": "imap", "about": "not I", ABOUT: "lua(timo,::1): "}
    open_log("text", "info", pipe.fd).info("unknown user", **fields)
    assert pipe.lines()[0].endswith('lua(timo,::1): unknown user service=imap about="not I"')
    open_log("json", "info", pipe.fd).info("unknown user", **fields)
    event = json.loads(pipe.lines()[0])
    assert (event["event"], event["user"], event["rip"], event["about"]) == ("unknown user", "timo", "::1", "not I")
    assert len(event) == 7
    open_log("logfmt", "info", pipe.fd).info("unknown user", **fields)
    assert 'event="unknown user" user=timo rip=::1 service=imap' in pipe.lines()[0]
