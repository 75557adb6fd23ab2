"""What authlua computes itself, against the RFCs, hashlib and crypt(3)."""

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from struct import pack, unpack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authlua.passwords import MalformedHash, credentials, libcrypt, verify
from authlua.passwords.md import md4, md5_block
from authlua.passwords.md5_crypt import md5_crypt
from authlua.passwords.otp import entry
from authlua.passwords.scheme import ALPHABET


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (b"", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        (b"a", "bde52cb31de33e46245e05fbdbd6fb24"),
        (b"abc", "a448017aaf21d8525fc10ae87aa6729d"),
        (b"message digest", "d9130a8164549fe818874806e1c7014b"),
        (b"abcdefghijklmnopqrstuvwxyz", "d79e1c308aa5bbcdeea8ed63df412da9"),
        (
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "043f8582f241db351ce627e153e7f0e4",
        ),
        (b"1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4_gives_the_digests_of_its_rfc(text: bytes, digest: str) -> None:
    """RFC 1320, appendix A.5."""
    assert md4(text).hex() == digest


def md5_from(state: tuple[int, int, int, int], text: bytes, before: int) -> bytes:
    """MD5 continued: *text* behind *before* bytes that led to *state*."""
    padded = text + b"\x80" + bytes(-(len(text) + 9) % 64) + pack("<Q", (before + len(text)) * 8)
    for start in range(0, len(padded), 64):
        state = md5_block(padded[start : start + 64], state)
    return pack("<4I", *state)


@given(st.binary(max_size=200))
def test_md5_block_by_block_is_md5(text: bytes) -> None:
    """Our inside of MD5 adds up to hashlib's."""
    start = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    assert md5_from(start, text, 0) == hashlib.md5(text).digest()


@example(b"k" * 64, b"a key of one block is used as it is")
@example(b"k" * 65, b"a longer one is hashed first")
@given(st.binary(max_size=150).filter(lambda text: 0 not in text), st.binary(max_size=150))
def test_cram_md5_credentials_finish_every_challenge(password: bytes, challenge: bytes) -> None:
    """From the stored 32 bytes alone comes the HMAC-MD5 a client computes from the password (RFC 2195 section 2)."""
    raw = credentials("{PLAIN.hex}" + password.hex(), "CRAM-MD5", user="")
    outer, inner = unpack("<4I", raw[:16]), unpack("<4I", raw[16:])
    assert md5_from(outer, md5_from(inner, challenge, 64), 64) == hmac.digest(password, challenge, "md5")


def test_cram_md5_gives_the_answer_of_its_rfc() -> None:
    """RFC 2195, section 3: the secret ``tanstaaftanstaaf``."""
    raw = credentials("tanstaaftanstaaf", "CRAM-MD5", user="tim")
    outer, inner = unpack("<4I", raw[:16]), unpack("<4I", raw[16:])
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert md5_from(outer, md5_from(inner, challenge, 64), 64).hex() == "b913a602c7eda7a495b4e6e7334d3890"


def test_digest_md5_credentials_give_the_answer_of_their_rfc() -> None:
    """RFC 2831, section 4: chris at elwood.innosoft.com, whose password is ``secret``."""

    def hexed(text: bytes) -> bytes:
        return hashlib.md5(text).hexdigest().encode()

    raw = credentials("secret", "DIGEST-MD5", user="chris@elwood.innosoft.com")
    first = hexed(raw + b":OA6MG9tEQGm2hh:OA6MHXh6VqTrRk")
    second = hexed(b"AUTHENTICATE:imap/elwood.innosoft.com")
    answer = hexed(first + b":OA6MG9tEQGm2hh:00000001:OA6MHXh6VqTrRk:auth:" + second)
    assert answer == b"d388dad90d4bbd760a152321f2143af7"


@pytest.mark.parametrize(
    ("algorithm", "count", "expected"),
    [
        ("md4", 0, "d1854218ebbb0b51"),
        ("md4", 1, "63473ef01cd0b444"),
        ("md4", 99, "c5e612776e6c237a"),
        ("md5", 0, "9e876134d90499dd"),
        ("md5", 1, "7965e05436f5029f"),
        ("md5", 99, "50fe1962c4965880"),
        ("sha1", 0, "bb9e6ae1979d8ff4"),
        ("sha1", 1, "63d936639734385b"),
        ("sha1", 99, "87fec7768b73ccf9"),
    ],
)
def test_one_time_passwords_are_those_of_their_rfc(algorithm: str, count: int, expected: str) -> None:
    """RFC 2289, appendix C, pass phrase ``This is a test.``, seed ``TeSt``."""
    assert entry(algorithm, count, b"TeSt", b"This is a test.") == f"{algorithm} {count} test {expected}".encode()


@settings(max_examples=40, deadline=None)
@given(
    st.binary(max_size=100).filter(lambda text: 0 not in text),
    st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=8).map(bytes),
)
def test_md5_crypt_is_what_the_system_computes(password: bytes, salt: bytes) -> None:
    """For every salt that crypt(3) takes too."""
    assert md5_crypt(password, salt) == libcrypt.crypt(password, b"$1$" + salt)


def test_md5_crypt_takes_eight_characters_of_salt() -> None:
    """So a hash that was made with more of them fits nothing."""
    assert verify(b"secret", "{MD5-CRYPT}" + md5_crypt(b"secret", b"eight888").decode())
    assert not verify(b"secret", "{MD5-CRYPT}" + md5_crypt(b"secret", b"nine99999").decode())


def test_threads_hash_side_by_side() -> None:
    """Each in memory of its own."""
    passwords = [b"%d" % number for number in range(100)]

    def work(password: bytes) -> bytes:
        return libcrypt.crypt(password, b"$6$rounds=1000$salt")

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, passwords)) == [work(password) for password in passwords]


class TestWithoutLibcrypt:
    """A system that has no crypt(3)."""

    @pytest.fixture(autouse=True)
    def _no_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(libcrypt, "_library", lambda: None)

    def test_a_hash_that_needs_it_is_an_error(self) -> None:
        """Calling it a mismatch would lock everybody out without a word."""
        with pytest.raises(MalformedHash, match="there is no libcrypt on this system"):
            verify(b"secret", "{SHA512-CRYPT}$6$salt$x")

    def test_bcrypt_and_md5_crypt_do_without(self) -> None:
        """They are computed elsewhere."""
        assert verify(b"secret123", "{CRYPT}$2y$05$abcdefghijklmnopqrstuufvjuf7CcaH07fRiVpDJzStoWzfjAMP6")
        assert verify(b"secret123", "{MD5-CRYPT}" + md5_crypt(b"secret123", b"salt").decode())
