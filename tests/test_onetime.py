"""One-time codes: the vectors of their RFCs, and what people do to secrets and codes on the way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.onetime import (
    Codes,
    codes,
    find_recovery_code,
    hash_recovery_code,
    make_recovery_codes,
    make_secret,
    read_secret,
    split,
    uri,
)

SEED = b"12345678901234567890"
BASE32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

HOTP = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
"""RFC 4226 appendix D: secret ``SEED``, counters 0 to 9."""

TOTP = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]
"""RFC 6238 appendix B: seconds, then the codes with SHA-1, SHA-256 and SHA-512. The seed is as long as the digest,
which the RFC does not say and its erratum 2866 does."""


@pytest.mark.parametrize(("count", "code"), list(enumerate(HOTP)))
def test_rfc_4226(count: int, code: str):
    """Appendix D."""
    assert Codes(SEED).at(count) == code


@pytest.mark.parametrize(("seconds", "sha1", "sha256", "sha512"), TOTP)
def test_rfc_6238(seconds: int, sha1: str, sha256: str, sha512: str):
    """Appendix B."""
    seeds = {"SHA1": SEED, "SHA256": (2 * SEED)[:32], "SHA512": (4 * SEED)[:64]}
    made = [Codes(seed, 8, algorithm).at(seconds // 30) for algorithm, seed in seeds.items()]
    assert made == [sha1, sha256, sha512]


def test_a_code_is_found_within_the_counts_and_nowhere_else():
    """The first of them, should two be the same."""
    made = codes(BASE32)
    assert made.find(HOTP[3], range(2, 6)) == 3
    assert made.find(HOTP[3], range(4, 9)) is None
    assert made.find("", range(9)) is None
    assert made.find(HOTP[3] + "0", range(9)) is None
    assert made.find("\udcff\u0663", range(9)) is None


@given(st.binary(min_size=16, max_size=64), st.integers(0, 2**63), st.sampled_from(["SHA1", "SHA256", "SHA512"]))
def test_what_is_made_is_found(secret: bytes, count: int, algorithm: str):
    """For every secret, count and algorithm; the next code is another, or the same by chance and found where it is."""
    made = Codes(secret, 8, algorithm)
    assert made.find(made.at(count), [count]) == count
    assert made.find(made.at(count), [count + 1]) in (None, count + 1)


@given(st.text(), st.text())
def test_no_secret_and_no_code_raises_anything_else(secret: str, code: str):
    """Whatever was typed."""
    try:
        made = codes(secret)
    except ValueError:
        return
    made.find(code, range(3))


@pytest.mark.parametrize("text", [BASE32, BASE32.lower(), "gezd gnbv-gy3t qojq gezd gnbv gy3t qojq", BASE32 + "======"])
def test_a_secret_as_people_write_it(text: str):
    """Either case, in groups, padded or not."""
    assert read_secret(text) == SEED


@pytest.mark.parametrize(
    "text", ["", "MFRGG===", "GEZDGNBVGY3TQOJ!", "GEZDGNBVGY3TQOJ1", "ééééééééééééééééé", "A" * 17]
)
def test_what_is_no_secret(text: str):
    """Short ones are refused too: they can be guessed."""
    with pytest.raises(ValueError, match="the secret"):
        read_secret(text)


def test_a_fresh_secret_reads_back_and_never_comes_twice():
    """Of the length that was asked for."""
    made = {make_secret(size) for size in (16, 20, 32) for _ in range(5)}
    assert len(made) == 15
    assert {len(read_secret(one)) for one in made} == {16, 20, 32}


def test_the_secret_is_in_no_repr():
    """Nor is a code."""
    assert "123456" not in repr(Codes(SEED))


def test_a_uri_for_an_app():
    """With an issuer at both places that apps look at; what is special in a URI is quoted."""
    options: dict[str, Any] = {"digits": 6, "algorithm": "SHA1", "period": 30}
    assert uri(BASE32, "alice@example.org", "Example & Co", **options, counter=None) == (
        f"otpauth://totp/Example%20%26%20Co:alice%40example.org?secret={BASE32}&issuer=Example%20%26%20Co"
        "&algorithm=SHA1&digits=6&period=30"
    )
    assert uri(BASE32.lower(), "bob", **options, counter=7) == (
        f"otpauth://hotp/bob?secret={BASE32}&algorithm=SHA1&digits=6&counter=7"
    )


@pytest.mark.parametrize(
    ("password", "options", "parts"),
    [
        ("secret123456", {}, ("secret", "123456")),
        ("secret 123456", {"separator": " "}, ("secret", "123456")),
        ("sécret+12345678", {"separator": "+", "digits": 8}, ("sécret", "12345678")),
        ("123456", {}, ("", "123456")),
        ("secret123456", {"separator": "+"}, None),
        ("secret", {}, None),
        ("12345", {}, None),
        ("secret12345x", {}, None),
        ("secret\u0661\u0662\u0663\u0664\u0665\u0666", {}, None),
    ],
)
def test_a_code_typed_behind_the_password(password: str, options: dict[str, Any], parts: tuple[str, str] | None):
    """Only ASCII digits are a code."""
    assert split(password, **options) == parts


def test_recovery_codes_are_found_however_they_are_typed():
    """And none that is not stored."""
    made = make_recovery_codes(5)
    stored = [hash_recovery_code(code) for code in made]
    assert len(set(made)) == 5
    assert [find_recovery_code(code, stored) for code in made] == [0, 1, 2, 3, 4]
    assert find_recovery_code(made[3].upper().replace("-", " "), stored) == 3
    assert find_recovery_code(make_recovery_codes(1)[0], stored) is None
    assert find_recovery_code("", stored) is None
    assert find_recovery_code(stored[0], stored) is None
    assert not any(code in one for code in made for one in stored)
