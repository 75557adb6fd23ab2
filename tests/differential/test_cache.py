"""The auth cache, step by step beside a real Dovecot's: the same replies, and the script is asked the same number of
times."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from authlua.conformance.raw import RawConnection
from tests.differential.servers import DOVECOTS, AuthClient, Authlua, MasterClient, Server
from tests.reference.dovecot import why_not

SCRIPT = """
local auth = dovecot.auth
local HERE = debug.getinfo(1, "S").source:match("^@(.*/)")

local function answer_of(user)
  local calls = io.open(HERE .. "calls", "a")
  calls:write(user, "\\n")
  calls:close()
  for line in io.lines(HERE .. "answers") do
    local name, answer = line:match("^(.-) (.*)$")
    if name == user then return answer end
  end
  return "unknown"
end

local function fields(answer)
  local found = {}
  for name, value in answer:gmatch("(%S-)=(%S*)") do found[name] = value end
  return found
end

local RESULTS = {
  unknown = "USER_UNKNOWN", down = "INTERNAL_FAILURE", disabled = "USER_DISABLED", expired = "PASS_EXPIRED",
  mismatch = "PASSWORD_MISMATCH", next = "NEXT",
}

function PASSDB(request, given)
  local answer = answer_of(request.user)
  local result = RESULTS[answer]
  if result then return auth["PASSDB_RESULT_" .. result], "" end
  if answer == "error" then error("a bug") end
  local found = fields(answer)
  if given then
    if given ~= found.secret then return auth.PASSDB_RESULT_PASSWORD_MISMATCH, "" end
    found.secret = nil
  end
  return auth.PASSDB_RESULT_OK, found
end

function auth_userdb_lookup(request)
  local answer = answer_of(request.user)
  if answer == "unknown" then return auth.USERDB_RESULT_USER_UNKNOWN, "" end
  if answer == "down" then return auth.USERDB_RESULT_INTERNAL_FAILURE, "" end
  if answer == "tempfail" then return auth.USERDB_RESULT_OK, { tempfail = "y" } end
  return auth.USERDB_RESULT_OK, { home = "/" .. request.user }
end
"""

KEYS = """
function auth_passdb_get_cache_key() return "KEY" end
function auth_userdb_get_cache_key() return "KEY" end
"""

TTL, NEGATIVE_TTL = 4, 2
"""Seconds; Dovecot's clock has no others."""

KINDS = ("disabled", "expired", "mismatch", "next", "down", "error")

Step = tuple[str, ...]


@dataclass(frozen=True)
class Site:
    """What is done, one after the other: ``set``, ``login``, ``user``, ``pass``, ``flush`` or ``sleep``."""

    name: str
    steps: list[Step]
    verifies: bool = False
    """The script judges passwords itself."""
    key: tuple[str, str] = ("%u", "%{user}")
    """In 2.3, and in 2.4."""
    worker: bool = False
    """Dovecot's script runs in a worker."""

    def script(self, series: str) -> str:
        function = "auth_password_verify" if self.verifies else "auth_passdb_lookup"
        text = SCRIPT.replace("PASSDB(request, given)", f"{function}(request, given)")
        return text if series == "2.3" else text + KEYS.replace("KEY", self.key[1])

    def for_dovecot(self, series: str) -> str:
        word = "yes" if self.worker else "no"
        if series == "2.4":
            return "".join(
                f"{kind} lua {{\n  lua_file = {{directory}}/auth.lua\n  {kind}_use_worker = {word}\n}}\n"
                for kind in ("passdb", "userdb")
            )
        args = f"file={{directory}}/auth.lua blocking={word} cache_key={self.key[0]}"
        return "".join(f"{kind} {{\n  driver = lua\n  args = {args}\n}}\n" for kind in ("passdb", "userdb"))

    def for_authlua(self, series: str) -> str:
        key = f'cache_key = "{self.key[0]}"\n' if series == "2.3" else ""
        block = f'script = "auth.lua"\nuse_worker = false\n{key}'
        return (
            "[auth]\nfailure_delay = 0\ninternal_failure_delay = 0\npenalty = false\ncache_size = '1M'\n"
            f"cache_ttl = {TTL}\ncache_negative_ttl = {NEGATIVE_TTL}\n[[passdb]]\n{block}[[userdb]]\n{block}"
        )


SITES = [
    Site(
        "a password",
        [
            ("set", "t", "password={PLAIN}one x=1"),
            ("login", "t", "one"),
            ("login", "t", "one"),
            ("login", "t", "wrong"),
            ("login", "t", "wrong"),
            ("login", "t", "one"),
            ("login", "T", "one"),
            # it was changed meanwhile
            ("set", "t", "password={PLAIN}two x=2"),
            ("login", "t", "two"),
            ("login", "t", "two"),
            ("login", "t", "one"),
            ("login", "t", "two"),
            ("pass", "t"),
            ("pass", "t"),
            ("user", "t"),
            ("user", "t"),
        ],
    ),
    Site(
        "what is kept",
        [
            *(("set", name, name) for name in KINDS),
            ("set", "any", "nopassword=y"),
            ("set", "none", "x=1"),
            ("set", "both", "nopassword=y password={PLAIN}one"),
            ("set", "net", "password={PLAIN}one allow_nets=192.0.2.0/24"),
            ("set", "alias", "password={PLAIN}one user=t"),
            ("set", "mail", "password={PLAIN}one userdb_quota=7"),
            ("set", "late", "noauthenticate=y"),
            ("set", "slow", "password={SHA256}10/w7o2juYBrGMh32/KbveULW9jk2tejpyUAD+uC6PE="),
            ("set", "odd", "password={NOSUCH}one"),
            *(
                ("login", name, "one")
                for name in (*KINDS, "any", "none", "net", "alias", "mail", "late", "slow", "odd", "nobody")
                for _ in range(2)
            ),
            ("login", "any", "another"),
            ("login", "slow", "pass"),
            ("login", "slow", "pass"),
            ("user", "nobody"),
            ("user", "nobody"),
            ("set", "nobody", "password={PLAIN}one"),
            ("login", "nobody", "one"),
            ("set", "temp", "tempfail"),
            ("user", "temp"),
            ("user", "temp"),
        ],
    ),
    Site(
        "a script that judges",
        [
            ("set", "t", "secret=one x=1"),
            ("login", "t", "one"),
            ("login", "t", "one"),
            ("login", "t", "wrong"),
            ("login", "t", "wrong"),
            ("login", "t", "one"),
            ("set", "t", "secret=two"),
            ("login", "t", "two"),
            ("login", "t", "two"),
            # a password that comes with the verdict is nothing but what is remembered
            ("set", "u", "secret=one password={PLAIN}another"),
            ("login", "u", "another"),
            ("login", "u", "one"),
            ("login", "u", "one"),
            ("login", "u", "another"),
            ("login", "u", "another"),
        ],
        verifies=True,
    ),
    Site(
        "flush",
        [
            ("set", "t", "password={PLAIN}one"),
            ("set", "tt", "password={PLAIN}one"),
            *(("login", name, "one") for name in ("t", "tt", "nobody")),
            ("user", "t"),
            ("flush", "t"),
            *(("login", name, "one") for name in ("t", "tt", "nobody")),
            ("user", "t"),
            ("flush", "x"),
            ("flush", "t", "nobody"),
            *(("login", name, "one") for name in ("t", "tt", "nobody")),
            ("flush",),
            *(("login", name, "one") for name in ("t", "tt", "nobody")),
        ],
    ),
    Site(
        "time",
        [
            ("set", "t", "password={PLAIN}one"),
            ("set", "u", "password={PLAIN}one"),
            *(("login", name, "one") for name in ("t", "u", "nobody")),
            ("user", "t"),
            ("sleep", str(NEGATIVE_TTL + 1.1)),
            ("login", "t", "one"),
            # longer ago than the negative ttl, so the password may have been changed
            ("login", "u", "wrong"),
            ("login", "u", "wrong"),
            ("set", "nobody", "password={PLAIN}one"),
            ("login", "nobody", "one"),
            ("sleep", str(TTL - NEGATIVE_TTL)),
            # whatever there was has expired; the last known answer is good in an outage
            *(("set", name, "down") for name in ("t", "u", "nobody", "new")),
            ("login", "t", "one"),
            ("login", "t", "wrong"),
            ("login", "t", "one"),
            ("login", "new", "one"),
            ("user", "t"),
            ("user", "new"),
            ("set", "t", "password={PLAIN}two"),
            ("login", "t", "one"),
            ("login", "t", "two"),
            ("login", "t", "two"),
        ],
        # without workers, 2.3.19.1 and 2.4.1 crash after an answer that has expired
        worker=True,
    ),
    Site(
        "a longer key",
        [
            ("set", "t", "password={PLAIN}one"),
            ("login", "t", "one", "rip=192.0.2.1"),
            ("login", "t", "one", "rip=192.0.2.2"),
            ("login", "t", "one", "rip=192.0.2.1"),
            ("flush", "t"),
            ("login", "t", "one", "rip=192.0.2.1"),
        ],
        key=("%u/%r", "%{user}/%{remote_ip}"),
    ),
    Site(
        "a key of another order",
        [
            ("set", "t", "password={PLAIN}one"),
            ("login", "t", "one", "rip=192.0.2.1"),
            ("flush", "t"),
            ("login", "t", "one", "rip=192.0.2.1"),
            ("login", "t", "one", "rip=192.0.2.1"),
        ],
        key=("%r%u", "%{remote_ip}%{user}"),
    ),
]

SLICE = {("2.3", "a password"), ("2.3", "a script that judges"), ("2.4", "what is kept"), ("2.4", "flush")}
"""What every run of the tests tries."""

KNOWN = {
    # an unknown scheme was a wrong password before 2.3.21, and wrong passwords are remembered
    ("2.3", "what is kept"): {"login odd one": ["FAIL\tuser=odd (0 calls)", "FAIL\tuser=odd (1 calls)"]},
}
"""Where Dovecot's answer, and authlua's, may differ."""


class Side:
    """One of the two servers."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._directory = directory
        self._client = AuthClient(server)
        self._master = MasterClient(server)
        self._flush = RawConnection.connect(server.sockets["master"])
        self._flush.greeting()
        self._flush.send(b"VERSION\t1\t0\n")
        self._flushes = 0
        self._answers: dict[str, str] = {}
        self._write()

    def _write(self) -> None:
        (self._directory / "answers").write_text("".join(f"{name} {text}\n" for name, text in self._answers.items()))

    def do(self, step: Step) -> str:
        """What came of *step*, and how often the script was asked for that."""
        calls = self._directory / "calls"
        calls.write_text("")
        calls.chmod(0o666)
        action, *words = step
        match action:
            case "set":
                self._answers[words[0]] = words[1]
                self._write()
                return ""
            case "login":
                said = self._client.login(words[0], words[1], *words[2:])
            case "flush":
                self._flushes += 1
                line = "\t".join(["CACHE-FLUSH", str(self._flushes), *words])
                self._flush.send(f"{line}\n".encode())
                said = (self._flush.receive() or b"").decode()
            case _:
                said = self._master.ask(action.upper(), words[0])
        fields = said.rstrip("\t").split("\t")
        asked = len(calls.read_text().splitlines())
        return "\t".join([fields[0], *sorted(one for one in fields[1:] if one)]) + f" ({asked} calls)"

    def close(self) -> None:
        self._client.__exit__()
        self._master.__exit__()
        self._flush.close()


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_the_cache_answers_the_same(series: str, site: Site) -> None:
    """Both servers take each step before either takes the next."""
    if reason := why_not(series):
        pytest.skip(reason)
    if (series, site.name) not in SLICE and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` takes all steps; that takes seconds each")
    script = site.script(series)
    settings: dict[str, str | int] = {
        "auth_failure_delay": 0,
        "auth_cache_size": "1M",
        "auth_cache_ttl": f"{TTL}s",
        "auth_cache_negative_ttl": f"{NEGATIVE_TTL}s",
        **({} if series == "2.3" else {"auth_internal_failure_delay": 0}),
    }
    said: dict[str, list[str]] = {}
    config = site.for_authlua(series)
    with (
        DOVECOTS[series](script, databases=site.for_dovecot(series), **settings) as dovecot,
        Authlua(config, dialect=series, files={"auth.lua": script}) as authlua,
    ):
        dovecot.directory.chmod(0o777)
        sides = Side(dovecot, dovecot.directory), Side(authlua, authlua.directory)
        for number, step in enumerate(site.steps):
            if step[0] == "sleep":
                time.sleep(float(step[1]))
            else:
                said[f"{number} {' '.join(step)}"] = [side.do(step) for side in sides]
        for side in sides:
            side.close()
    known = KNOWN.get((series, site.name), {})
    differing = {step: pair for step, pair in said.items() if pair[0] != pair[1]}
    assert {step: pair for step, pair in differing.items() if known.get(step.partition(" ")[2]) != pair} == {}
