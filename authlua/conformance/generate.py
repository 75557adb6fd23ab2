"""Makes sessions, with hypothesis: whole ones, sensible and not, that a Dovecot of 2.3 or 2.4 survives.

What is never made, since it ends the process that would have to answer:

* result codes outside of ``dovecot.auth``, and field names that are empty, no strings or hold TAB, CR or LF
  (`script.lua` has none);
* ``#`` for an answer to LOGIN, and a line that ends the connection behind a LIST that runs (2.4.1);
* a cookie of more than 32 digits (2.3.19);
* a master that leaves while an internal failure waits for its delay (2.4.1): a connection is only closed when
  everything it asked has been answered.

Stored passwords that cannot be decoded are not for 2.3: up to 2.3.20 they are a wrong password, later a failure.
Nor is a failure with ``nopassword``, or with a field set that was there before: to take a field away or to change it,
Dovecot takes its snapshot anew, and what the failure should have taken back stays.

And what is never made, since its answer is nobody's to tell: fields of one table that undo one another, and answers
that overtake one another. What 2.3 and 2.4 do with the mask of a LIST is known (docs/differences.md) and left out.
"""

import base64
import re
from collections.abc import Mapping
from functools import cache
from typing import TypeVar

from hypothesis import strategies as st

from authlua.conformance import words
from authlua.conformance.sessions import CLIENTS, HangUp, Open, Say, Session, Step

T = TypeVar("T")

PROFILES = ("plain", "verify", "chain", "rules")
"""The settings that sessions are made for: see `authlua.conformance.profiles`."""

KINDS = ("login", "client", "master", "userdb")
"""All sockets, clients' first."""

_IDS = ("1", "2", "3", "7", "4294967295")
_BAD_IDS = ("0", "-1", "abc", "4294967296", "", "+1", "01", " 1", "1 ", "1x", "99999999999999999999999")


def escape(value: bytes) -> bytes:
    """*value* as it stands in a field."""
    value = value.replace(b"\x01", b"\x011").replace(b"\t", b"\x01t").replace(b"\0", b"\x010")
    return value.replace(b"\n", b"\x01n").replace(b"\r", b"\x01r")


def _mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    return st.sampled_from([usual] * max(1, 4 * len(others)) + list(others))


# -- users and passwords


@cache
def _words(kind: str, dialect: str) -> st.SearchStrategy[list[str]]:
    groups = words.fields(kind)
    if kind == "passdb":
        left_out = words.ROLLED_BACK | (words.BROKEN if dialect == "2.3" else frozenset())
        groups = {word: group for word, group in groups.items() if word not in left_out}
    some = st.lists(st.sampled_from(sorted(groups)), max_size=3, unique_by=lambda word: groups[word])
    return some.map(_without_rollback)


def _without_rollback(some: list[str]) -> list[str]:
    if not any(word.startswith("nopw") for word in some):
        return some
    return [word for word in some if word.startswith("nopw") or word not in words.SPOILING]


@cache
def _spec(kind: str, dialect: str) -> st.SearchStrategy[str]:
    codes = words.PASSDB_CODES if kind == "passdb" else words.USERDB_CODES
    good = st.builds(lambda some: ".".join(["ok-t", *some]), _words(kind, dialect))
    shape = st.builds(lambda code, second: f"{code}-{second}", st.sampled_from(codes), st.sampled_from(words.SECONDS))
    table = st.builds(lambda code, some: ".".join([f"{code}-t", *some]), st.sampled_from(codes), _words(kind, dialect))
    return st.one_of(good, good, good, shape, table, st.sampled_from(words.RAISES))


def _apart(first: str, second: str) -> str:
    """*second* without what sets a field that *first* may have set: a failure would then take back too little."""
    if re.search(r"-s\d", first) and re.search(r"-s\d", second):
        return "ok-t"
    groups = words.fields("passdb")
    head, *some = second.split(".")
    taken = {groups.get(word) for word in first.split(".")} - {"password"}
    return ".".join([head, *(word for word in some if groups[word] not in taken)])


_ODD_NAMES = [b"", b"@", b"@x", b"a@", b"a b", b"a*b", b"*", b"a!b@x", b"ok-t", b"unknown", b"A@B@C", b"x" * 300]
_ODD_NAMES += [
    "grün".encode(),
    "ÄÖÜ@x".encode(),
    b"\xff\xfe",
    b"a\tb",
    b"a\x01b",
    b"a\nb\r",
    b"%u",
    b"%{user}",
    b"a%b@x",
]
_ODD_NAMES += [b"ok-t_ok-t@", b"OK-T.S_ok-t@Some.Where", b"ok-t_ok-t*boss", b"ok-t_ok-t*ok-t_x", b"*ok-t", b"ok-t*"]

_JUNK = st.one_of(
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "replace")),
    st.binary(max_size=6),
    st.sampled_from(_ODD_NAMES),
)


@st.composite
def _users(draw: st.DrawFn, dialect: str, profile: str) -> bytes:
    """A user's name: in most cases one that means something to the script."""
    choice = draw(st.integers(0, 11))
    if choice == 0:
        return draw(st.sampled_from(_ODD_NAMES))
    if choice == 1:
        return draw(_JUNK)
    passdb, userdb = draw(_spec("passdb", dialect)), draw(_spec("userdb", dialect))
    if profile in ("chain", "rules"):
        if draw(st.integers(0, 4)) == 0:  # fields that stay, whatever the next passdb says
            groups = words.fields("passdb")
            some = draw(_words("passdb", dialect))
            passdb = ".".join(["ok-t.noauth", *(word for word in some if groups[word] != "password")])
        passdb += "=" + _apart(passdb, draw(_spec("passdb", dialect)))
        if draw(st.booleans()):
            userdb += "=" + draw(_spec("userdb", dialect))
    name = f"{passdb}_{userdb}".encode()
    if profile in ("chain", "rules"):
        if choice == 2:
            name += b"_" + draw(_JUNK)
        elif choice in (3, 4):
            master = draw(st.one_of(st.just("ok-t"), st.just("ok-t"), _spec("passdb", dialect)))
            name = b"%s@t*%s" % (name, master.encode())
    elif choice == 2:
        name = name.upper()
    return name + draw(_mostly(b"@x", b"", b"@", b"@Dom.Example", b"@a@b"))


_PASSWORDS = _mostly(
    b"pass",
    b"pass",
    b"other",
    b"wrong",
    b"",
    b"1234",
    b"PASS",
    b"pass ",
    b"p\xe4ss",
    b"a\tb",
    b"a\x01",
    b"a\nb",
    b"y" * 200,
)


def _is_slow(*names: bytes) -> bool:
    text = b" ".join(names).lower().decode("utf-8", "replace")
    return any(word in text for word in words.SLOW)


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data)


_BAD_BASE64 = st.sampled_from(
    [b"!!!", b"AHg", b"AHg=x", b"=", b"====", b"AA==AA==", b"A", b"\xff", b"AHg= ", b"#", b" "]
)


# -- parameters


_VALUES = st.one_of(
    st.sampled_from(
        [b"", b"x", b"a b", b"a=b", "ü".encode(), b"\xff", b"a\x01tb", b"\x01", b"a\x01", b"a\x01xb", b"\x010"]
    ),
    st.binary(max_size=5).map(escape),
)
_IPS = st.sampled_from(
    [
        b"127.0.0.1",
        b"127.1",
        b"1",
        b"[::1]",
        b"10.1.2.3",
        b"::1",
        b"fe80::1",
        b"2001:DB8::0:1",
        b"::ffff:1.2.3.4",
        b"300.1.1.1",
        b"x",
        b"",
    ]
)
_PORTS = st.sampled_from([b"143", b"1", b"65535", b"65536", b"0", b"-1", b"x", b"", b"0143"])
_FORWARD = st.sampled_from([b"a=b", b"a", b"a=b\x01tc=d", b"a=x\x011ty\x01tc", b"=x", b"a=", b"s=1\x01ts=2"])

_PARAMS: Mapping[bytes, st.SearchStrategy[bytes] | None] = {
    b"session": _VALUES,
    b"lip": _IPS,
    b"rip": _IPS,
    b"lport": _PORTS,
    b"rport": _PORTS,
    b"real_lip": _IPS,
    b"real_rip": _IPS,
    b"real_lport": _PORTS,
    b"real_rport": _PORTS,
    b"local_name": _VALUES,
    b"client_id": _VALUES,
    b"forward_fields": _FORWARD,
    b"secured": st.sampled_from([b"tls", b"TLS", b"", b"x"]),
    b"no-penalty": None,
    b"final-resp-ok": None,
    b"valid-client-cert": None,
    b"cert_username": st.just(b"certified"),
    b"ssl_ja3_hash": _VALUES,
    b"nologin": None,
    b"unknown": _VALUES,
    b"": _VALUES,
}
_PARAM_NAMES = st.sampled_from(sorted(_PARAMS))


@st.composite
def _params(draw: st.DrawFn, dialect: str, *, service: bool = True) -> list[bytes]:
    """Parameters of an AUTH, USER, PASS or LIST."""
    result: list[bytes] = []
    if service:
        other = b"protocol=imap" if dialect != "2.3" else b"service=pop3"
        result.append(draw(_mostly(b"service=imap", b"service=", b"service=smtp", other, b"service")))
        if draw(st.integers(0, 49)) == 0:
            result[0] = b"Service=x"
    for name in draw(st.lists(_PARAM_NAMES, max_size=3)):
        strategy = _PARAMS[name]
        if strategy is None:
            result.append(draw(st.sampled_from([name, name + b"="])))
        else:
            result.append(draw(_mostly(name + b"=" + draw(strategy), name)))
    if service and draw(st.integers(0, 9)) == 0:
        result.append(result.pop(0))
    return result


# -- lines


def _line(*fields: bytes) -> bytes:
    return b"\t".join(fields)


def _ids(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 49)) == 0:
        return draw(st.sampled_from(_BAD_IDS)).encode()
    return draw(st.sampled_from(_IDS)).encode()


def _plain_response(draw: st.DrawFn, user: bytes) -> bytes:
    password = draw(_PASSWORDS)
    choice = draw(st.integers(0, 15))
    if choice == 0:
        return draw(st.binary(max_size=8))
    if choice == 1:
        return user + b"\0" + password
    if choice == 2:
        return b"\0" + user + b"\0" + password + b"\0"
    authzid = draw(_mostly(b"", user, b"other@x", user.upper())) if choice < 6 else b""
    return authzid + b"\0" + user + b"\0" + password


def _initial(draw: st.DrawFn, data: bytes) -> bytes:
    return b"resp=" + (draw(_BAD_BASE64) if draw(st.integers(0, 19)) == 0 else _base64(data))


class _Maker:
    """Draws one session."""

    def __init__(self, draw: st.DrawFn, dialect: str, profile: str, kinds: tuple[str, ...]) -> None:
        self.draw = draw
        self.dialect = dialect
        self.profile = profile
        self.clients = [kind for kind in kinds if kind in CLIENTS]
        self.masters = [kind for kind in kinds if kind not in CLIENTS]
        self.steps: list[Step] = []
        self.kinds: dict[str, str] = {}
        self.logins: list[tuple[str, bytes]] = []

    def open(self, name: str, kind: str) -> None:
        """A connection with a handshake, in most cases a good one."""
        draw = self.draw
        minor = (
            draw(_mostly(b"2", b"0", b"1", b"3", b"4", b"9")) if kind in CLIENTS else draw(_mostly(b"1", b"0", b"3"))
        )
        hello = b"VERSION\t1\t" + minor + b"\n"
        if kind in CLIENTS:
            hello += b"CPID\t{%s.pid}\n" % name.encode()
        choice = draw(st.integers(0, 24))
        if choice == 0:
            hello = draw(st.sampled_from(_BAD_HELLOS)).replace(b"{x", b"{" + name.encode())
        elif choice == 1:
            hello = hello.replace(b"\n", b"\r\n")
        elif choice == 2 and self.kinds and kind in CLIENTS:
            hello = hello.replace(name.encode(), sorted(self.kinds)[0].encode())
        self.kinds[name] = kind
        self.steps.append(Open(name, kind, hello))

    def say(self, name: str, *lines: bytes, settle: bool = False) -> None:
        """Lines in one write, unless it is cut."""
        draw = self.draw
        end = b"\r\n" if draw(st.integers(0, 19)) == 0 else b"\n"
        data = end.join([*lines, b""])
        cuts: tuple[int, ...] = ()
        if lines[0][:4] != b"LIST" and draw(st.integers(0, 9)) == 0:
            cuts = tuple(sorted(set(draw(st.lists(st.integers(1, max(1, len(data) - 1)), max_size=3)))))
        self.steps.append(Say(name, data, cuts, settle))

    def user(self) -> bytes:
        return self.draw(_users(self.dialect, self.profile))

    # -- what may happen

    def exchange(self, name: str) -> None:
        """A SASL exchange, to its end or not."""
        draw = self.draw
        id = _ids(draw)
        user = self.user()
        slow = _is_slow(user)
        params = draw(_params(self.dialect))
        mech = b"LOGIN" if draw(st.integers(0, 3)) == 0 else b"PLAIN"
        mech = draw(_mostly(mech, mech.lower(), mech.lower(), b"FOO"))
        head = _line(b"AUTH", id, mech, *params)
        self.logins.append((name, id))
        answers = [user, draw(_PASSWORDS)] if mech.upper() == b"LOGIN" else [_plain_response(draw, user)]
        if draw(st.integers(0, 3)) if mech.upper() != b"LOGIN" else draw(st.integers(0, 1)) == 0:
            head = _line(head, _initial(draw, answers.pop(0)))
        elif draw(st.integers(0, 7)) == 0:
            head = _line(head, draw(st.sampled_from([b"resp=", b"resp", b"resp==", b"resp=\t", b"resp=AHg=\tx=y"])))
        pending = [head, *(_line(b"CONT", id, _base64(answer)) for answer in answers)]
        spoil = draw(st.integers(0, 15))
        if spoil == 0:
            pending.insert(draw(st.integers(1, len(pending))), _line(b"CANCEL", id))
        elif spoil == 1:
            pending.append(_line(b"CONT", id, b"AAAA"))
        elif spoil == 2:
            at = draw(st.integers(1, len(pending)))
            bad = draw(_BAD_BASE64)
            if bad != b"#" or mech.upper() == b"PLAIN":
                pending[at:] = [_line(b"CONT", id, bad), *pending[at:]]
        elif spoil == 3:
            pending.append(pending[0])
        elif spoil == 4:
            pending[-1] += draw(st.sampled_from([b"\t", b"\tx=y", b"\tchannel_binding=AAAA", b"\t\t"]))
        elif spoil == 5:
            pending = pending[:-1] or pending
        if not slow and draw(st.booleans()):
            self.say(name, *pending)
        else:
            for line in pending:
                self.say(name, line, settle=slow)

    def failures(self, name: str) -> None:
        """Several at once."""
        lines = []
        for number in range(self.draw(st.integers(2, 5))):
            user = self.draw(
                st.sampled_from([b"ok-t_ok-t@x", b"nobody", b"dis-s7_ok-t", b"int-s7_ok-t", b"exp-s7_ok-t"])
            )
            response = _base64(b"\0" + user + b"\0" + self.draw(_PASSWORDS))
            lines.append(_line(b"AUTH", b"%d" % (number + 10), b"PLAIN", b"service=x", b"resp=" + response))
        self.say(name, *lines)

    def word(self, name: str) -> None:
        """A line on its own, sensible or not."""
        draw = self.draw
        id = _ids(draw)
        lines = [
            _line(b"CANCEL", id),
            b"CANCEL",
            _line(b"CONT", id),
            _line(b"CONT", id, b""),
            _line(b"CONT", id, b"!"),
            _line(b"CONT", id, b"AHgAeA==", b"x=y"),
            _line(b"CANCEL", id, b"x"),
            b"CONT",
            b"AUTH",
            _line(b"AUTH", id),
            _line(b"AUTH", id, b"PLAIN"),
            b"",
            b"auth\t1\tPLAIN\tservice=x",
            _line(b"FOO", id),
            b"VERSION\t1\t2",
            b"CPID\t{%s.pid}" % name.encode(),
            _line(b"AUTH", id, b"PLAIN", b"service=x", b"pad=" + b"y" * draw(st.sampled_from([16000, 16300, 17000]))),
            b"AUTH\t1\tPLAIN\tservice=x\0y\tresp=AHg=",
        ]
        self.say(name, draw(st.sampled_from(lines)))

    def long_line(self, name: str, limit: int) -> None:
        """A line of the greatest length, or one byte more or less."""
        head = b"AUTH\t9\tPLAIN\tservice=x\tpad=" if self.kinds[name] in CLIENTS else b"USER\t9\tunk\tservice=x\tpad="
        length = limit + self.draw(st.sampled_from([-1, 0, 1]))
        self.steps.append(Say(name, head + b"y" * (length - len(head) - 1) + b"\n"))

    def request(self, name: str) -> None:
        """A master comes for a login."""
        draw = self.draw
        login, login_id = draw(st.sampled_from(self.logins)) if self.logins else ("a", b"1")
        if draw(st.integers(0, 9)) == 0:
            login_id = _ids(draw)
        of = login.encode()
        pid, cookie = b"{%s.pid}" % of, b"{%s.cookie}" % of
        choice = draw(st.integers(0, 24))
        if choice == 0:
            pid = draw(
                st.sampled_from(
                    [b"1", b"x", b"", b"-1", b"{%s.pid}" % draw(st.sampled_from(sorted(self.kinds))).encode()]
                )
            )
        elif choice == 1:
            short = [b"ab", b"", b"zz", b"a", b"0" * 31, b"0" * 30]
            cookie = draw(
                st.sampled_from(
                    [*short, b"f" * 32, b"{%s.cookie}" % draw(st.sampled_from(sorted(self.kinds))).encode()]
                )
            )
        extra: list[bytes] = draw(
            _mostly(
                [], [b"session_pid={peer}"], [b"session_pid=1"], [b"session_pid=x"], [b"session_pid"], [b"x=y", b""]
            )
        )
        if draw(st.integers(0, 5)) == 0:
            extra = [*extra, draw(st.sampled_from([b"request_auth_token", b"request_auth_token=x"]))]
        fields = [b"REQUEST", _ids(draw), pid, login_id, cookie, *extra]
        if choice == 2:
            fields = fields[: draw(st.integers(1, 4))]
        self.say(name, _line(*fields), settle=True)

    def lookup(self, name: str) -> None:
        """One or more lookups of a master."""
        draw = self.draw
        lines = []
        slow = False
        for _ in range(draw(_mostly(1, 2, 3))):
            user = self.user()
            slow = slow or _is_slow(user)
            word = draw(_mostly(b"USER", b"PASS", b"PASS"))
            user = user if draw(st.integers(0, 29)) == 0 else escape(user)
            lines.append(
                _line(word, _ids(draw), user, *draw(_params(self.dialect)))[:1000].rstrip(b"\x01").replace(b"\n", b"?")
            )
        if slow:
            for line in lines:
                self.say(name, line, settle=True)
        else:
            self.say(name, *lines)

    def master_word(self, name: str) -> None:
        """Something else a master may say, or may not."""
        draw = self.draw
        id = _ids(draw)
        if self.dialect == "2.3":
            masks = [[], [b"user=*"]]
        else:
            masks = [
                [b"user=" + mask]
                for mask in (b"*", b"ok*", b"*@Y", b"?K@x", b"[o]k@x", b"nothing", b"*a*", b"ok@x", b"**@x")
            ]
        lists = [_line(b"LIST", id, *draw(st.sampled_from(masks)), *draw(_params(self.dialect, service=False)))]
        if draw(st.integers(0, 3)) == 0:
            lists.append(_line(b"LIST", draw(st.sampled_from(_IDS)).encode(), b"user=*"))
        others = [
            [_line(b"CACHE-FLUSH", b"abc", b"x", b"y")],
            [_line(b"CACHE-FLUSH", id)],
            [b"CACHE-FLUSH"],
            [b"LIST"],
            [b"USER"],
            [_line(b"USER", id)],
            [_line(b"USER", id, b"unk")],
            [_line(b"PASS", id, b"")],
            [_line(b"USER", id, b"", b"service=x")],
            [b""],
            [_line(b"CANCEL", id)],
            [b"CPID\t1"],
            [b"VERSION\t1\t1"],
            [b"REQUEST"],
            [b"FOO"],
        ]
        lines = lists if draw(st.integers(0, 2)) == 0 else draw(st.sampled_from(others))
        self.say(name, *lines, settle=len(lines) > 1 or lines[0].startswith(b"LIST"))

    def make(self) -> Session:
        draw = self.draw
        shape = draw(st.integers(0, 9))
        names = ["a"]
        self.open("a", draw(_mostly(*(self.clients if shape < 7 or not self.masters else self.masters))))
        if shape in (0, 1, 2, 3) and self.masters:
            names.append("m")
            self.open("m", draw(_mostly(*self.masters)))
        if shape == 0:
            names.append("b")
            self.open("b", draw(_mostly(*self.clients)))
        for _ in range(draw(st.integers(1, 5))):
            self.happen(draw(st.sampled_from(names)))
        if "m" in names and shape and draw(st.booleans()):
            self.request("m")
        return Session(self.profile, tuple(self.steps))

    def happen(self, name: str) -> None:
        choice = self.draw(st.integers(0, 19))
        if self.kinds[name] in CLIENTS:
            if choice < 15:
                self.exchange(name)
            elif choice == 15:
                self.failures(name)
            elif choice == 16:
                self.leave(name)
            elif choice == 17:
                self.long_line(name, 16384)
            else:
                self.word(name)
        elif choice < 10:
            self.lookup(name)
        elif choice < 15 and self.logins:
            self.request(name)
        elif choice == 15:
            self.leave(name)
        elif choice == 16:
            self.long_line(name, 1024)
        else:
            self.master_word(name)

    def leave(self, name: str) -> None:
        """Hang up, maybe inside a line; maybe come back."""
        draw = self.draw
        if draw(st.booleans()):
            self.steps.append(
                Say(name, draw(st.sampled_from([b"AUTH\t1\tPLAIN\tservice=x", b"CONT", b"USER\t1\tx\tservice"])))
            )
        self.steps.append(HangUp(name))
        if draw(st.booleans()):
            self.open(name, self.kinds[name])


_BAD_HELLOS = [
    b"\n",
    b"VERSION\t2\t0\nCPID\t{x.pid}\n",
    b"VERSION\t1\nCPID\t{x.pid}\n",
    b"VERSION\t1\tx\nCPID\t{x.pid}\n",
    b"VERSION\t1\t0\tfoo\nCPID\t{x.pid}\n",
    b"VERSION\t01\t02\nCPID\t{x.pid}\n",
    b"VERSION\t1\t-1\nCPID\t{x.pid}\n",
    b"VERSION\t1\t99999999999\nCPID\t{x.pid}\n",
    b"VERSION\t1\t\nCPID\t{x.pid}\n",
    b"version\t1\t2\nCPID\t{x.pid}\n",
    b"CPID\t{x.pid}\nVERSION\t1\t2\n",
    b"VERSION\t1\t2\nAUTH\t1\tPLAIN\tservice=x\n",
    b"VERSION\t1\t2\nCPID\t0\n",
    b"VERSION\t1\t2\nCPID\tabc\n",
    b"VERSION\t1\t2\nCPID\n",
    b"VERSION\t1\t2\nCPID\t0{x.pid}\n",
    b"VERSION\t1\t2\nCPID\t+{x.pid}\n",
    b"VERSION\t1\t2\nCPID\t{x.pid}\tx\n",
    b"VERSION\t1\t2\nCPID\t{x.pid}\nCPID\t{x.pid}\n",
    b"VERSION\t1\t2\n\nCPID\t{x.pid}\n",
    b"VERSION\t1\t2\nVERSION\t1\t2\nCPID\t{x.pid}\n",
]


@st.composite
def sessions(draw: st.DrawFn, dialect: str, profile: str, kinds: tuple[str, ...] = KINDS) -> Session:
    """Sessions for a server of *dialect* with the settings called *profile*, on sockets of *kinds*."""
    return _Maker(draw, dialect, profile, kinds).make()
