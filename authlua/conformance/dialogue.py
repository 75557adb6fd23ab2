r"""Dialogues: text files that read like a recorded session, and whoever plays them against a server.

    # A wrong password is answered only after the failure delay.
    # rows: 36
    @open login
    C: AUTH	7	PLAIN	service=imap	resp=P(ok@x,wrong)
    C: AUTH	8	PLAIN	service=imap	resp=P(ok@x,pass)
    S: OK	8	user=ok@x
    S: FAIL	7	user=ok@x

The comment on top says what the file shows; ``rows:`` names the checklist rows it covers. Then:

``@open KIND [as NAME] [raw] [minor=N] [pid=P] [uid=N]``
    Connects to the login, client, auth-login, master or userdb socket and shakes hands; with ``raw`` it only connects.
    minor is 2 for clients and 1 for masters unless given, pid a number of its own; uid is who connects (needs root).
    Later lines say ``C NAME:`` and ``S NAME:``. Opening a name again first proves that its last connection is done.
``@close [NAME]``      Hangs up.
``@mechanisms LIST``   The server offers these instead of plain and login.
``@skip WHY``          Not played (to be used behind a tag).
``@one-packet WHY``    Means something only if lines that go out together arrive together.
``C: LINE``            The client says it. Such lines in a row to one connection go out in one write.
``S: LINE``            The server says exactly this next. Fields whose order is free on the wire compare as a set.
``S~: LINE``           Such lines in a row come in any order.
``S: <greeting>``      The server's half of the handshake.
``S: <closed>``        It hangs up.
``S: <nothing>``       Not a byte has come by now; that tells something only after an answer on another connection.

A line tagged ``[2.3]`` or ``[2.4]`` belongs to that dialect only, ``[dovecot]`` only to the real one, ``[authlua]``
only to ours, ``[2.3 dovecot]`` where both hold. Every use of ``authlua`` is a known difference.

In a LINE, TAB is TAB; ``\t`` ``\r`` ``\n`` ``\\`` ``\xHH`` are for bytes that would not be seen. P(user,password) and
B(text) are base64, of a PLAIN response and of text. FILL(n) makes the line n bytes long with its LF. ``{pid}``
``{spid}`` ``{cuid}`` ``{cookie}`` are those of the connection without a name, ``{NAME.pid}`` … of another; ``{peer}``
is the process id the server sees. In what the server says ``*`` stands for any text within a field, and ``{word:*}``
also keeps it as ``{word}``.

At the end, and it is what makes a dialogue worth its name, every connection still open proves its silence: more
requests on it, one of which is answered only after the failure delay, get their own answers and nothing else.
Time itself is never looked at: what is late is what comes after the answer to a later question.
"""

import base64
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from authlua.conformance.raw import Greeting

CLIENTS = frozenset({"login", "client", "auth-login"})
MASTERS = frozenset({"master", "userdb"})
DIALECTS = frozenset({"2.3", "2.4"})
SUBJECTS = frozenset({"dovecot", "authlua"})


class Conversation(Protocol):
    """One connection to the server under test."""

    peer_pid: int

    def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes | None:
        """The next line without its LF, None once the server has hung up; AssertionError when none is coming."""

    def waiting(self) -> bytes:
        """What has come and was not received yet, without waiting."""

    def close(self) -> None: ...


class Target(Protocol):
    """Something that serves the reference script."""

    dialect: str
    subject: str

    def open(self, kind: str, *, uid: int | None = None) -> Conversation: ...


class NotPlayed(Exception):
    """The dialogue has nothing to say to this target, for the reason given."""


@dataclass(frozen=True)
class Step:
    """One line of a dialogue."""

    number: int
    verb: str
    """``open``, ``close``, ``mechanisms``, ``skip``, ``one-packet``, ``C``, ``S`` or ``S~``."""
    name: str
    """The connection."""
    text: str
    tags: frozenset[str]

    def is_for(self, dialect: str, subject: str) -> bool:
        return self.tags <= {dialect, subject}


@dataclass(frozen=True)
class Dialogue:
    """A parsed file."""

    path: Path
    summary: str
    rows: frozenset[int]
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    def steps_for(self, dialect: str, subject: str) -> list[Step]:
        """The lines that hold there.

        Raises:
            NotPlayed: there are none, or one says so.
        """
        steps = [step for step in self.steps if step.is_for(dialect, subject)]
        for step in steps:
            if step.verb == "skip":
                raise NotPlayed(step.text)
        if not any(step.verb == "open" for step in steps):
            raise NotPlayed(f"nothing in it is about {dialect}")
        return steps

    def mechanisms(self, dialect: str, subject: str) -> str:
        """The mechanisms the server shall offer, in the spelling of ``auth_mechanisms``."""
        wanted = [step.text for step in self.steps_for(dialect, subject) if step.verb == "mechanisms"]
        return wanted[-1] if wanted else "plain login"

    @property
    def needs_one_packet(self) -> str:
        """Why its bytes may not arrive in pieces, if they may not."""
        return next((step.text for step in self.steps if step.verb == "one-packet"), "")

    @property
    def needs_root(self) -> bool:
        return any(step.verb == "open" and "uid=" in step.text for step in self.steps)


# -- reading a file


def fixed() -> list[Dialogue]:
    """The dialogues that come with the kit: every row of the protocol's checklist."""
    return [parse(path) for path in sorted((Path(__file__).parent / "dialogues").glob("*.txt"))]


_LINE = re.compile(
    r"""(?: \[ (?P<tags> [^]]+ ) \] \  )?
        (?: @ (?P<word> [\w-]+ ) (?: \  (?P<rest> .* ) )?
          | (?P<side> C | S~? ) (?: \  (?P<name> \w+ ) )? : (?: \  (?P<text> .* ) )?
        )""",
    re.VERBOSE,
)
_OPEN = re.compile(r"(?P<kind>[a-z-]+)(?: as (?P<name>\w+))?(?P<options>(?: (?:raw|minor=\d+|pid=[\w{}.]+|uid=\d+))*)")


def parse(path: Path) -> Dialogue:
    """Read a dialogue.

    Raises:
        ValueError: a line is none of the above; names file and line.
    """
    comments: list[str] = []
    steps: list[Step] = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if line.startswith("#"):
            comments += [line[1:].strip()] * (not steps)
        elif line:
            steps.append(_parse_line(path, number, line))
    rows = [int(row) for comment in comments if comment.startswith("rows:") for row in re.findall(r"\d+", comment)]
    summary = " ".join(comment for comment in comments if not comment.startswith("rows:"))
    return Dialogue(path, summary, frozenset(rows), tuple(steps))


def _parse_line(path: Path, number: int, line: str) -> Step:
    where = f"{path.name}:{number}"
    if line != line.rstrip():
        raise ValueError(rf"{where}: white space at the end cannot be seen, write it as \t")
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{where}: not a line of a dialogue: {line!r}")
    tags = frozenset((match["tags"] or "").split())
    if unknown := tags - DIALECTS - SUBJECTS:
        raise ValueError(f"{where}: no such tag: {', '.join(unknown)}")
    if match["side"]:
        return Step(number, match["side"], match["name"] or "", match["text"] or "", tags)
    verb, rest = match["word"], match["rest"] or ""
    if verb == "open":
        opened = _OPEN.fullmatch(rest)
        if opened is None or opened["kind"] not in CLIENTS | MASTERS:
            raise ValueError(f"{where}: not a way to open a connection: {rest!r}")
        return Step(number, verb, opened["name"] or "", rest, tags)
    if verb == "close":
        return Step(number, verb, rest, "", tags)
    if verb in ("mechanisms", "skip", "one-packet") and rest:
        return Step(number, verb, "", rest, tags)
    raise ValueError(f"{where}: no such direction: @{verb}")


# -- lines and what they match

_MAGIC = re.compile(
    rb"""\\ (?P<escape> [trn\\] | x[0-9a-f]{2} )
       | P\( (?P<user> [^,()]* ) , (?P<password> [^()]* ) \)
       | B\( (?P<text> [^()]* ) \)
       | \{ (?P<word> \w+ (?: \.\w+ )? ) \}""",
    re.VERBOSE,
)
_FILL = re.compile(rb"FILL\((\d+)\)")
_ESCAPES = {b"t": b"\t", b"r": b"\r", b"n": b"\n", b"\\": b"\\"}
_WILD = re.compile(rb"\*|\{(?P<word>[a-z_]+):\*\}")

# What stands first and last in a reply has its place; between them Lua tables decide, and they have no order.
_PLACED_FIRST = {b"OK": (b"user",), b"PASS": (b"user",), b"FAIL": (b"user", b"nodelay", b"code"), b"USER": ()}
_PLACED_LAST = {
    b"OK": (b"original_user", b"auth_user", b"anonymous", b"pass", b"master"),
    b"FAIL": (b"original_user", b"auth_user", b"anonymous"),
    b"PASS": (),
    b"USER": (b"master_user", b"auth_mech", b"anonymous", b"auth_token", b"auth_user", b"local_name"),
}


def spell_out(text: str, words: dict[str, bytes]) -> bytes:
    """The bytes that *text* stands for, without LF."""

    def replace(match: re.Match[bytes]) -> bytes:
        if escape := match["escape"]:
            return _ESCAPES.get(escape) or bytes.fromhex(escape[1:].decode())
        if match["user"] is not None:
            return base64.b64encode(b"\0" + match["user"] + b"\0" + match["password"])
        if match["text"] is not None:
            return base64.b64encode(match["text"])
        return words[match["word"].decode()]

    line = _MAGIC.sub(replace, text.encode())
    if fill := _FILL.search(line):
        missing = int(fill[1]) - 1 - (len(line) - len(fill[0]))
        line = line.replace(fill[0], b"x" * missing)
    return line


def matches(expected: bytes, line: bytes) -> dict[str, bytes] | None:
    """What *expected* keeps of *line*, or None when it is another line."""
    wanted, got = _in_places(expected), _in_places(line)
    kept: dict[str, bytes] = {}
    for some_wanted, some_got in zip(wanted, got, strict=True):
        if len(some_wanted) != len(some_got):
            return None
    for place in (0, 2):
        for one_wanted, one_got in zip(wanted[place], got[place], strict=True):
            if (match := _field_pattern(one_wanted).fullmatch(one_got)) is None:
                return None
            kept |= match.groupdict()
    left = list(got[1])
    for one_wanted in sorted(wanted[1], key=lambda one: b"*" in one):  # the exact ones take theirs first
        pattern = _field_pattern(one_wanted)
        match = next(filter(None, map(pattern.fullmatch, left)), None)
        if match is None:
            return None
        left.remove(match[0])
        kept |= match.groupdict()
    return kept


def _in_places(line: bytes) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The fields of a line that come first, those in any order, those that come last."""
    fields = line.split(b"\t")
    if (first := _PLACED_FIRST.get(fields[0])) is None:
        return fields, [], []
    last = _PLACED_LAST[fields[0]]
    start = 3 if fields[0] == b"USER" else 2
    while start < len(fields) and fields[start].partition(b"=")[0] in first:
        start += 1
    end = len(fields)
    while end > start and fields[end - 1].partition(b"=")[0] in last:
        end -= 1
    return fields[:start], fields[start:end], fields[end:]


def _field_pattern(expected: bytes) -> re.Pattern[bytes]:
    pattern, at = b"", 0
    for wild in _WILD.finditer(expected):
        group = b"(?P<%s>.*)" % wild["word"] if wild["word"] else b".*"
        pattern += re.escape(expected[at : wild.start()]) + group
        at = wild.end()
    return re.compile(pattern + re.escape(expected[at:]), re.DOTALL)


# -- playing it

_pids = itertools.count(100_000)
_BARRIERS = {
    # a request and its one answer; the first is late (for masters in 2.4 only), the second comes at once
    "client": (
        (b"AUTH\t4294967294\tPLAIN\tservice=imap\tresp=AG9rQHgAd3Jvbmc=", b"FAIL\t4294967294\tuser=ok@x"),
        (b"CONT\t4294967293\tAAAA", b"FAIL\t4294967293\treason=Authentication request timed out"),
    ),
    "master": (
        (b"USER\t4294967294\tuint@x\tservice=imap", b"FAIL\t4294967294"),
        (b"USER\t4294967295\tunk@x\tservice=imap", b"NOTFOUND\t4294967295"),
    ),
}


@dataclass
class _Line:
    """An open connection and what is known of it."""

    name: str
    kind: str
    conversation: Conversation
    greeted: bool = False


class _Play:
    """One run of a dialogue against a target."""

    def __init__(self, dialogue: Dialogue, target: Target) -> None:
        self.dialogue = dialogue
        self.target = target
        self.lines: dict[str, _Line] = {}
        self.words: dict[str, bytes] = {}
        self.transcript: list[str] = []

    async def play(self) -> None:
        steps = self.dialogue.steps_for(self.target.dialect, self.target.subject)
        place = ""
        try:
            for (verb, name), group in itertools.groupby(steps, key=lambda step: (step.verb, step.name)):
                some = list(group)
                place = f"line {some[0].number}"
                match verb:
                    case "C":
                        self.say(name, [spell_out(step.text, self.words) for step in some])
                    case "S~":
                        await self.hear_all(name, [spell_out(step.text, self.words) for step in some])
                    case "open":
                        for step in some:
                            await self.open(step)
                    case "close":
                        self.hang_up(name)
                    case "S":
                        for step in some:
                            place = f"line {step.number}"
                            await self.hear(name, step.text)
            place = "the silence at its end"
            for name in list(self.lines):
                await self.prove_silence(name)
        except AssertionError as error:
            error.add_note("\n".join([f"{self.dialogue.path.name}, {place}; so far:", *self.transcript]))
            raise
        finally:
            for name in list(self.lines):
                self.hang_up(name)

    async def open(self, step: Step) -> None:
        if step.name in self.lines:
            await self.prove_silence(step.name)
            self.hang_up(step.name)
        match = _OPEN.fullmatch(step.text)
        assert match
        options = dict(option.partition("=")[::2] for option in match["options"].split())
        kind = match["kind"]
        uid = int(options["uid"]) if "uid" in options else None
        pid = int(spell_out(options["pid"], self.words)) if "pid" in options else next(_pids)
        conversation = self.target.open(kind, uid=uid)
        self.lines[step.name] = _Line(step.name, kind, conversation)
        self.words |= {self.word(step.name, "pid"): b"%d" % pid, "peer": b"%d" % conversation.peer_pid}
        if "raw" in options:
            return
        minor = options.get("minor", "2" if kind in CLIENTS else "1").encode()
        self.say(step.name, [b"VERSION\t1\t" + minor, *([b"CPID\t%d" % pid] if kind in CLIENTS else [])])
        await self.greet(step.name)

    def line(self, name: str) -> _Line:
        assert name in self.lines, f"there is no open connection {name}".rstrip()
        return self.lines[name]

    def hang_up(self, name: str) -> None:
        self.lines.pop(name).conversation.close()

    async def greet(self, name: str) -> None:
        line = self.line(name)
        greeting = Greeting()
        while not greeting.add(await line.conversation.receive()):
            pass
        line.greeted = True
        self.transcript.append(f"S {name}: <greeting>")
        for word in ("spid", "cuid", "cookie"):
            self.words[self.word(name, word)] = getattr(greeting, word).encode()

    def say(self, name: str, lines: list[bytes]) -> None:
        line = self.line(name)
        self.transcript += [f"C {name}: {_shown(one)}" for one in lines]
        line.conversation.send(b"".join(one + b"\n" for one in lines))

    async def hear(self, name: str, text: str) -> None:
        line = self.line(name)
        match text:
            case "<greeting>":
                await self.greet(name)
            case "<nothing>":
                assert line.conversation.waiting() == b"", "nothing is due on this connection"
            case "<closed>":
                await self.hear_line(line, None)
                self.hang_up(name)
            case _:
                await self.hear_line(line, spell_out(text, self.words))

    async def hear_line(self, line: _Line, expected: bytes | None) -> None:
        got = await self.receive(line, expected)
        if got is None or expected is None:
            assert got is expected, f"expected {_shown(expected)}, got {_shown(got)}"
            return
        kept = matches(expected, got)
        assert kept is not None, f"expected {_shown(expected)}, got {_shown(got)}"
        self.words |= kept
        if got == b"DONE" or (line.kind in MASTERS and got.startswith(b"SPID\t")):
            line.greeted = True

    async def hear_all(self, name: str, due: list[bytes]) -> None:
        while due:
            got = await self.receive(self.line(name), due[0])
            fitting = [one for one in due if got is not None and matches(one, got) is not None]
            assert fitting, f"expected one of {', '.join(map(_shown, due))}, got {_shown(got)}"
            due.remove(fitting[0])

    async def receive(self, line: _Line, expected: bytes | None) -> bytes | None:
        try:
            got = await line.conversation.receive()
        except AssertionError as error:
            raise AssertionError(f"expected {_shown(expected)}, but {error}") from None
        self.transcript.append(f"S {line.name}: {_shown(got)}")
        return got

    async def prove_silence(self, name: str) -> None:
        line = self.line(name)
        assert line.greeted, "before the handshake is over, silence cannot be proven"
        for request, answer in _BARRIERS["client" if line.kind in CLIENTS else "master"]:
            self.say(name, [request])
            await self.hear_line(line, answer)
        assert line.conversation.waiting() == b"", f"more was said: {_shown(line.conversation.waiting())}"

    @staticmethod
    def word(name: str, word: str) -> str:
        return f"{name}.{word}" if name else word


async def play(dialogue: Dialogue, target: Target) -> None:
    """Play *dialogue* against *target*; what it awaits is the target's conversations.

    Raises:
        NotPlayed: it has nothing to say to this target.
        AssertionError: the server said something else; its notes hold the place and what was said so far.
    """
    await _Play(dialogue, target).play()


def play_blocking(dialogue: Dialogue, target: Target) -> None:
    """`play` where conversations block instead of waiting."""
    try:
        play(dialogue, target).send(None)
    except StopIteration:
        return
    raise RuntimeError("a conversation that blocks must not wait for anything else")


def _shown(line: bytes | None) -> str:
    if line is None:
        return "<closed>"
    text = repr(line)[2:-1]
    return text if len(text) < 300 else f"{text[:100]}…({len(line)} bytes)…{text[-50:]}"
