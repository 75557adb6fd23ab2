"""``dovecot.otp``: what scripts can do with second factors, and that each code is good once."""

import base64
from collections.abc import Coroutine
from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua.api.otp import TABLE
from authlua.wishes import Service
from tests.lua.conftest import Bench, login
from tests.test_onetime import BASE32, HOTP, SEED, TOTP


class Server:
    """Remembers what was used, as the server does for its scripts."""

    def __init__(self) -> None:
        self.used: dict[bytes, float] = {}

    def drive(self, core: Coroutine[Any, Any, Any]) -> Any:
        """What *core* comes to."""
        answer: Any = None
        while True:
            try:
                wish = core.send(answer)
            except StopIteration as done:
                return done.value
            assert isinstance(wish, Service)
            assert wish.name == "state"
            key, seconds = wish.arguments
            answer = (key not in self.used,)
            self.used[key] = seconds

    def ask(self, bench: Bench, body: str, **options: Any) -> str:
        """What Lua *body* returns, as texts."""
        passdb = bench.passdb(
            f"""
            local otp, SECRET = dovecot.otp, "{BASE32}"
            local function body(req) {body} end
            local function texts(...)
              local out = {{}}
              for i = 1, select("#", ...) do out[i] = tostring((select(i, ...))) end
              return table.concat(out, " ")
            end
            function auth_passdb_lookup(req) return 1, {{ out = texts(body(req)) }} end
            """,
            **options,
        )
        text = dict(self.drive(passdb.lookup(login())).fields)["out"]
        assert text is not None
        return text


@pytest.fixture
def server() -> Server:
    """One server, which no code was shown to yet."""
    return Server()


@pytest.mark.parametrize("version", ["5.1", "5.2", "5.4", "5.5", "luajit"])
def test_a_code_is_good_once(bench: Bench, server: Server, version: str):
    """Its step comes back, so that a script may store it; the same code again was used."""
    now = "{ time = 1000000 }"
    body = f"local code = otp.code(SECRET, {now}) return otp.totp(SECRET, code, {now})"
    assert server.ask(bench, body, version=version) == "33333"
    assert server.ask(bench, body, version=version) == "nil used"


def test_the_time_is_now_when_none_is_given(bench: Bench, server: Server):
    """For the code and for its check; between the two a step may end, which the window forgives."""
    assert server.ask(bench, "return otp.totp(SECRET, otp.code(SECRET)) ~= nil") == "true"


@pytest.mark.parametrize(("seconds", "sha1", "sha256", "sha512"), TOTP)
def test_the_vectors_of_rfc_6238(bench: Bench, server: Server, seconds: int, sha1: str, sha256: str, sha512: str):
    """With the time given; what is remembered never tells the secret or the code."""
    for algorithm, code in {"SHA1": sha1, "sha256": sha256, "SHA512": sha512}.items():
        size = {"SHA1": 20, "sha256": 32, "SHA512": 64}[algorithm]
        secret = base64.b32encode((4 * SEED)[:size]).decode()
        options = f"{{ digits = 8, algorithm = '{algorithm}', time = {seconds} }}"
        answer = server.ask(bench, f"return otp.totp('{secret}', '{code}', {options})")
        assert answer == str(seconds // 30)
        assert server.ask(bench, f"return otp.totp('{secret}', '{code}', {options})") == "nil used"
    assert not any(code.encode() in key for key in server.used for code in (sha1, sha256, sha512))


def test_the_window(bench: Bench, server: Server):
    """One step to either side unless the script says otherwise; used codes are remembered until none could be good."""
    at = "time = 1000000"
    for step, code in ((-2, "nil wrong"), (-1, "33332"), (0, "33333"), (1, "33334"), (2, "nil wrong")):
        shown = f"otp.code(SECRET, {{ time = 1000000 + 30 * {step} }})"
        assert server.ask(bench, f"return otp.totp(SECRET, {shown}, {{ {at} }})") == code
    wide = f"return otp.totp(SECRET, otp.code(SECRET, {{ time = 1000060 }}), {{ {at}, window = 2 }})"
    assert server.ask(bench, wide) == "33335"
    exact = f"return otp.totp(SECRET, otp.code(SECRET, {{ time = 1000030 }}), {{ {at}, window = 0 }})"
    assert server.ask(bench, exact) == "nil wrong"
    assert sorted(server.used.values()) == [120, 120, 120, 180]


@pytest.mark.parametrize(("count", "code"), list(enumerate(HOTP)))
def test_the_vectors_of_rfc_4226(bench: Bench, server: Server, count: int, code: str):
    """The counter to store is the one behind; a code that was passed over is found within the window."""
    assert server.ask(bench, f"return otp.hotp(SECRET, '{code}', {count})") == f"{count + 1}"
    assert server.ask(bench, f"return otp.hotp(SECRET, '{code}', {count})") == "nil used"
    assert server.ask(bench, f"return otp.hotp(SECRET, '{code}', {count + 1})") == "nil wrong"
    assert server.ask(bench, f"return otp.code(SECRET, {{ counter = {count} }})") == code
    early = max(count - 3, 0)
    passed = f"return otp.hotp(SECRET, '{code}', {early}, {{ window = 3, once = false }})"
    assert server.ask(bench, passed) == f"{count + 1}"


def test_recovery_codes(bench: Bench, server: Server):
    """Each is good once, whatever the script has stored by then."""
    body = """
    local codes, stored = otp.recovery_codes(3)
    assert(#codes == 3 and #stored == 3 and #otp.recovery_codes() == 10)
    local a, b = otp.recovery(codes[2]:upper():gsub("-", " "), stored), { otp.recovery(codes[2], stored) }
    local c = { otp.recovery("nonsense", stored) }
    local _, why = otp.recovery(nil, stored)
    return a, b[2], c[2], why, otp.recovery(codes[3], stored)
    """
    assert server.ask(bench, body) == "2 used wrong wrong 3"


def test_secrets_uris_and_passwords_with_a_code(bench: Bench, server: Server):
    """What an enrolment page needs, and what a login does."""
    assert len(server.ask(bench, "return otp.secret()")) == 32
    assert server.ask(bench, "return otp.secret() == otp.secret()") == "false"
    body = "return (otp.uri(SECRET, { account = req.user, issuer = 'Mail' }))"
    uri = f"otpauth://totp/Mail:alice?secret={BASE32}&issuer=Mail&algorithm=SHA1&digits=6&period=30"
    assert server.ask(bench, body) == uri
    assert server.ask(bench, "return otp.split('secret123456')") == "secret 123456"
    assert server.ask(bench, "return otp.split('secret')") == "nil"
    assert server.ask(bench, "return otp.split('a+12345678', { digits = 8, separator = '+' })") == "a 12345678"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("totp('nonsense!', '123456')", "dovecot.otp.totp: the secret is no base32"),
        ("totp('MFRGG', '123456')", "dovecot.otp.totp: the secret has less than 10 bytes"),
        ("totp(nil, '123456')", "dovecot.otp.totp: expected the secret, a text in base32"),
        ("totp(SECRET, '1', 5)", "dovecot.otp.totp: expected a table of options"),
        ("totp(SECRET, '1', { windows = 5 })", "dovecot.otp.totp: no option 'windows', there are digits, algorithm,"),
        ("totp(SECRET, '1', { window = 101 })", "dovecot.otp.totp: window: expected 0 to 100"),
        ("totp(SECRET, '1', { window = 1.5 })", "dovecot.otp.totp: window: expected a whole number"),
        ("totp(SECRET, '1', { algorithm = 'md5' })", "algorithm: expected one of SHA1, SHA256, SHA512"),
        ("totp(SECRET, '1', { digits = 4 })", "digits: expected 6 to 10"),
        ("hotp(SECRET, '1')", "dovecot.otp.hotp: expected a counter"),
        ("recovery('x', 'y')", "dovecot.otp.recovery: expected a list"),
        ("recovery_codes(1000)", "dovecot.otp.recovery_codes: count: expected 1 to 100"),
        ("secret(5)", "dovecot.otp.secret: size: expected 16 to 64"),
        ("uri('MFRGG', {})", "dovecot.otp.uri: the secret has less than 10 bytes"),
    ],
)
def test_mistakes_are_errors_of_the_script(bench: Bench, server: Server, call: str, problem: str):
    """And so temporary failures: no user is let in, or turned away, because of them."""
    with pytest.raises(ScriptError) as caught:
        server.ask(bench, f"return otp.{call}")
    assert problem in str(caught.value)
    assert BASE32 not in str(caught.value)


def test_no_code_is_accepted_where_nobody_could_remember_it(bench: Bench, server: Server):
    """Inside a function of C, which Lua cannot leave to wait, it is an error; ``once = false`` needs none."""
    body = "local ok ; ('x'):gsub('x', function() ok = otp.totp(SECRET, otp.code(SECRET)%s) end) return ok ~= nil"
    for version in ("5.4", "5.1"):
        with pytest.raises(ScriptError, match="a Service cannot be waited for here"):
            server.ask(bench, body % "", version=version, now=lambda service: (True,))
        assert server.ask(bench, body % ", { once = false }", version=version) != "nil"
    assert server.used == {}


@pytest.mark.parametrize("dialect", list(Dialect))
def test_it_is_there_for_scripts_of_every_dialect(bench: Bench, dialect: Dialect):
    """Though none of them has it."""
    body = "local n = 0 for name in pairs(dovecot.otp) do n = n + 1 end return n"
    assert bench.evaluate(body, dialect=dialect) == str(len(TABLE))
