"""What all mechanisms promise: the right password lets in, no other does, and nothing raises whatever it is sent."""

import hashlib
import hmac
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authlua.cli.sasl import CLIENTS, Identity
from authlua.dialect import Dialect
from authlua.results import PassdbResult
from authlua.sasl import DOVECOT_TOKEN, MECHS, CheckToken, MechInfo, Refused, Succeeded, Terms
from authlua.secret import Secret
from tests.sasl.talking import TERMS, Passdb, login, saying, talk

WITH_PASSWORD = [name for name in CLIENTS if name not in ("ANONYMOUS", "EXTERNAL")]
ELSEWHERE = ("GSSAPI", "GSS-SPNEGO", "NTLM")
"""Read by a library and by Samba's helper; the tests of these mechs send garbage to them."""
ALL = [*(mech for name, mech in MECHS.items() if name not in ELSEWHERE), DOVECOT_TOKEN]

# what no client can send as a name or password in every mech: control characters and nothing at all
names = st.text(st.characters(blacklist_characters="\0\1\r\n\t@", codec="utf-8"), min_size=1, max_size=20)
secrets = st.text(st.characters(blacklist_characters="\0\1\r\n\t", codec="utf-8"), min_size=1, max_size=80)


@pytest.mark.parametrize("mech", WITH_PASSWORD)
@given(name=names, domain=st.sampled_from(["", "@example.org"]), password=secrets)
@settings(max_examples=15, deadline=None)
def test_the_right_password_lets_in(mech: str, name: str, domain: str, password: str) -> None:
    """Names and passwords of any characters; a client that checks the server's proof is content with it."""
    who = Identity((name + domain).encode(), password.encode())
    assert login(mech, who, Passdb(password.encode())).accepted


@pytest.mark.parametrize("mech", WITH_PASSWORD)
@given(password=secrets, wrong=secrets)
@example(password="secret", wrong="secre")
@example(password="secret", wrong="Secret")
@settings(max_examples=15, deadline=None)
def test_no_other_password_does(mech: str, password: str, wrong: str) -> None:
    """However close it is."""
    if password == wrong:
        wrong += "x"
    assert not login(mech, Identity(b"alice", wrong.encode()), Passdb(password.encode())).accepted


@pytest.mark.parametrize("result", [one for one in PassdbResult if one is not PassdbResult.OK])
@pytest.mark.parametrize("mech", ["CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_a_failed_lookup_is_the_verdict(mech: str, result: PassdbResult) -> None:
    """The core makes the code and the delay of it; a database that is down is never a wrong password."""
    assert login(mech, Identity(b"alice", b"secret"), Passdb(result=result)).verdict is result


_WORDS = r"""
n, y, f, p=tls-unique, a=x, n=alice ,r=abc c=biws ,p= = " \\ , : user=alice auth=Bearer username= nonce= cnonce=1 nc=1
realm response= hex: init-word: <1.1.1. otp 00000000000000000000000000000000 aaaaaaaaaaaaaaaa ABE md5 99
"""


@pytest.mark.parametrize(
    ("change", "reason"),
    [((b"r=", b"r=x"), "Wrong nonce"), ((b"c=biws", b"c=eSws"), "Invalid channel binding data")],
)
def test_scram_takes_no_proof_for_other_words_than_its_own(change: tuple[bytes, bytes], reason: str) -> None:
    """Not even from who knows the password: an old login must not be played again, nor a header be exchanged."""
    salted = hashlib.pbkdf2_hmac("sha1", b"secret", b"salt", 4096)
    client_key, server_key = (hmac.digest(salted, label, "sha1") for label in (b"Client Key", b"Server Key"))
    stored_key = hashlib.sha1(client_key).digest()
    parts = b"4096", b64encode(b"salt"), b64encode(stored_key), b64encode(server_key)

    def answer(challenge: bytes, old: bytes = b"?", new: bytes = b"?") -> bytes:
        final = (b"c=biws," + challenge.partition(b",")[0]).replace(old, new, 1)
        signature = hmac.digest(stored_key, b",".join([b"n=alice,r=abc", challenge, final]), "sha1")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return final + b",p=" + b64encode(proof)

    passdb = Passdb(stored={"SCRAM-SHA-1": b",".join(parts)})
    terms = TERMS._replace(enabled=frozenset({"SCRAM-SHA-1"}))
    assert talk(MECHS["SCRAM-SHA-1"], b"n,,n=alice,r=abc", answer, passdb, terms).accepted
    refused = talk(MECHS["SCRAM-SHA-1"], b"n,,n=alice,r=abc", lambda c: answer(c, *change), passdb, terms)
    assert refused.verdict == Refused(reason)


words = st.sampled_from([*_WORDS.encode().split(), b"\0", b"\1", b" "])
messages = st.lists(st.one_of(st.binary(max_size=40), words), max_size=12).map(b"".join)


SCHEMES = ("PLAIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "OTP")


class AnyPassdb(Passdb):
    """Has *stored* in every scheme, or a password, and also knows what only DOVECOT-TOKEN asks."""

    def __init__(self, stored: bytes | None = None) -> None:
        super().__init__(b"secret", stored=None if stored is None else dict.fromkeys(SCHEMES, stored))

    def grant(self, wish: Any) -> Any:
        return PassdbResult.PASSWORD_MISMATCH if isinstance(wish, CheckToken) else super().grant(wish)


@pytest.mark.parametrize("info", [pytest.param(info, id=info.name) for info in ALL])
@given(
    initial=st.none() | messages,
    answers=st.lists(messages, max_size=3),
    stored=st.none() | st.binary(max_size=60),
    dialect=st.sampled_from(Dialect),
)
@settings(max_examples=60, deadline=None)
def test_nothing_that_is_sent_or_stored_raises(
    info: MechInfo, initial: bytes | None, answers: list[bytes], stored: bytes | None, dialect: Dialect
) -> None:
    """Each conversation ends in a verdict, or waits for the client; and garbage knows no password."""
    talked = talk(info, initial, saying(*answers), AnyPassdb(stored), TERMS._replace(dialect=dialect))
    assert talked.verdict is None or isinstance(talked.verdict, PassdbResult | Refused | Succeeded)
    if info.name not in ("ANONYMOUS", "EXTERNAL", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"):
        assert not talked.accepted


@pytest.mark.parametrize("info", [pytest.param(info, id=info.name) for info in ALL])
@given(message=st.binary(min_size=1, max_size=16384))
@settings(max_examples=20, deadline=None)
def test_a_long_message_is_read_in_time(info: MechInfo, message: bytes) -> None:
    """A line's worth of one character, or of any: no parser goes over it again and again."""
    for long in (message, message[:1] * 12000, b" " * 12000 + b"=", b'a="' + b"\\" * 12000, b"a=b," * 3000):
        talked = talk(info, long, saying(long), AnyPassdb())
        assert not talked.accepted or info.name in ("ANONYMOUS", "EXTERNAL")


def test_two_otp_logins_of_one_user_are_not_asked_the_same() -> None:
    """The second would be let in by whoever reads the first one's answer along; afterwards there is room again."""
    stored = {"OTP": b"md5 99 ke1234 b254f324b85c640c"}
    first = MECHS["OTP"].start(None, Terms())
    next(first)
    for answer in (Secret(b"\0alice"), "alice", Secret(stored["OTP"])):
        first.send(answer)
    second = talk(MECHS["OTP"], b"\0alice", saying(), Passdb(stored=stored))
    assert second.verdict == Refused("user is locked, race attack?", level="error")
    first.close()
    assert talk(MECHS["OTP"], b"\0alice", saying(), Passdb(stored=stored)).challenges == [b"otp-md5 98 ke1234 ext"]
