"""The installed ``doveadm pw`` takes what we make, we take what it makes, and both judge odd values alike."""

import functools
import os
import subprocess
from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.passwords import MalformedHash, UnknownScheme, encode, schemes, verify
from tests.reference.dovecot import installed_root, why_not

DIALECTS = {"2.3": Dialect.V2_3, "2.4": Dialect.V2_4}


def marked(series: str, *rest: str) -> object:
    """A parameter that needs a Dovecot of *series*."""
    mark = pytest.mark.dovecot if series == "2.3" else pytest.mark.dovecot24
    return pytest.param(series, *rest, marks=mark, id="-".join((series, *rest)))


USER = "timo@example.com"
PASSWORDS = {
    "ascii": b"secret123",
    "empty": b"",
    "long": b"0123456789" * 30,
    "utf-8": "pässwörd-日本".encode(),
    "8-bit": b"p\xe4ss\xffw\x80rd\x01",
}


# both know the same schemes but for one name, so 2.4 is asked about one kind of password unless told otherwise
KINDS = {"2.3": [*PASSWORDS], "2.4": [*PASSWORDS] if os.environ.get("AUTHLUA_DIFFERENTIAL") == "all" else ["8-bit"]}
EVERYTHING = [
    marked(series, name, kind) for series in DIALECTS for name in schemes(DIALECTS[series]) for kind in KINDS[series]
]


@functools.cache
def command(series: str) -> tuple[bytes, ...]:
    """How to call the ``doveadm pw`` of *series*; skips where there is none."""
    root = installed_root(series)
    if root is None:
        pytest.skip(why_not(series) or "")
    return (b"doveadm", b"pw") if root == Path("/") else (b"chroot", bytes(root), b"doveadm", b"pw")


def doveadm(stored: bytes, password: bytes, series: str = "2.3") -> tuple[str, str | None]:
    """What ``doveadm pw -t`` says: ``match``, or an error's kind and text."""
    words = [*command(series), b"-t", stored, b"-p", password, b"-u", USER.encode()]
    ran = subprocess.run(words, capture_output=True, check=False, timeout=60)
    if ran.returncode == 0:
        return "match", None
    _, _, text = ran.stderr.decode("utf-8", "replace").strip().partition("reverse ")
    kind, _, reason = text.partition(" check failed: ")
    if reason == "Password mismatch":
        return "mismatch", None
    return {"decode": "decode", "password verification": "verify"}[kind], reason


def ours(stored: bytes, password: bytes, series: str = "2.3") -> tuple[str, str | None]:
    """The same of us."""
    try:
        text = stored.decode("utf-8", "surrogateescape")
        fits = verify(password, text, user=USER, default_scheme="", dialect=DIALECTS[series])
    except MalformedHash as error:
        return error.stage, error.reason
    except UnknownScheme:
        return "decode", "Unknown scheme"
    return ("match" if fits else "mismatch"), None


@pytest.mark.parametrize("series", [marked("2.3"), marked("2.4")])
def test_both_know_the_same_schemes(series: str) -> None:
    """No scheme is missing and none is made up."""
    listed = subprocess.run([*command(series), b"-l"], capture_output=True, text=True, check=True).stdout.split()
    assert set(schemes(DIALECTS[series])) == set(listed)


@pytest.mark.parametrize(("series", "scheme", "kind"), EVERYTHING)
def test_what_we_make_dovecot_takes(series: str, scheme: str, kind: str) -> None:
    """And refuses it for another password."""
    password = PASSWORDS[kind]
    stored = encode(password, scheme, user=USER).encode("utf-8", "surrogateescape")
    assert doveadm(stored, password, series) == ("match", None)
    assert doveadm(stored, b"another", series) == ("mismatch", None)


@pytest.mark.parametrize(("series", "scheme", "kind"), EVERYTHING)
def test_what_dovecot_makes_we_take(series: str, scheme: str, kind: str) -> None:
    """With its default cost, for a password it has just seen; but for PLAIN-TRUNC, to which it adds no length."""
    password = PASSWORDS[kind]
    words = [*command(series), b"-s", scheme.encode(), b"-p", password, b"-u", USER.encode()]
    stored = subprocess.run(words, capture_output=True, check=True).stdout.rstrip(b"\n")
    if scheme == "PLAIN-TRUNC":
        assert ours(stored, password, series) == doveadm(stored, password, series)
        return
    assert ours(stored, password, series) == ("match", None)
    assert ours(stored, b"another", series) == ("mismatch", None)


ODD = [
    line.encode().decode("unicode_escape").encode("latin-1")
    for line in (Path(__file__).parent.parent / "vectors" / "odd-hashes.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.dovecot
@pytest.mark.parametrize("stored", [pytest.param(stored, id=ascii(stored)) for stored in ODD])
def test_odd_values_are_judged_alike(stored: bytes) -> None:
    """Where a value is nearly right, the line between match, mismatch and error runs where Dovecot drew it."""
    assert ours(stored, b"secret") == doveadm(stored, b"secret")


@pytest.mark.dovecot
@pytest.mark.parametrize("password", [b"secret1", b"secre", b""])
@pytest.mark.parametrize("stored", [b"6-secret", b"5-secret", b"7-secret", b"0-", b"-", b"1-", b"06-secret"])
def test_plain_trunc_lets_the_same_passwords_through(stored: bytes, password: bytes) -> None:
    """Those that begin with what may have been cut."""
    stored = b"{PLAIN-TRUNC}" + stored
    assert ours(stored, password) == doveadm(stored, password)


@pytest.mark.dovecot
@pytest.mark.parametrize("variant", [b"a", b"b", b"x", b"y"])
@pytest.mark.parametrize(
    "password", [b"\xff\xff\xa3", b"\xa3", b"\xff\xa334\xff\xff\xff\xa3345", b"1\xa3" * 40, b"a" * 80]
)
def test_blowfish_variants_agree_on_bytes_above_127(variant: bytes, password: bytes) -> None:
    """Each variant has its own answer to the old bug with them; a hash made by crypt(3) shows which."""
    from authlua.passwords.libcrypt import crypt

    stored = b"{BLF-CRYPT}" + crypt(password, b"$2%b$05$abcdefghijklmnopqrstuu" % variant)
    assert ours(stored, password) == doveadm(stored, password) == ("match", None)
