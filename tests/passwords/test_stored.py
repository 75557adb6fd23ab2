"""Stored passwords as text: prefix, suffix, encodings; what may be raised; what is too dear; credentials."""

import contextlib
import subprocess
import sys
from binascii import a2b_base64

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.passwords import (
    LIMITS,
    MalformedHash,
    SchemeMismatch,
    UnknownScheme,
    credentials,
    encode,
    is_slow,
    schemes,
    split_scheme,
    verify,
)
from authlua.passwords.otp import entry

FAST = [name for name in schemes() if not is_slow(f"{{{name}}}")]
ARGON = [name for name in schemes() if name.startswith("ARGON")]
SLOW = [name for name in schemes() if is_slow(f"{{{name}}}") and name not in ARGON]
REACH = {"DES-CRYPT": 8, "BLF-CRYPT": 72, "CRYPT": 72}
"""How many bytes of a password these schemes look at."""

ALIASES = [
    {"PLAIN", "CLEAR", "CLEARTEXT", "PLAIN-TRUNC"},
    {"CRAM-MD5", "HMAC-MD5"},
    {"SHA", "SHA1"},
    {"PLAIN-MD5", "LDAP-MD5"},
    {"MD5", "MD5-CRYPT"},
    {"CRYPT", "BLF-CRYPT"},
    {"ARGON2", "ARGON2ID"},
]
"""Schemes whose stored passwords serve each other."""

passwords = st.binary(max_size=100)
octets = st.binary(max_size=80).map(lambda data: data.decode("utf-8", "surrogateescape"))


class TestSyntax:
    """``{SCHEME.ENCODING}data``"""

    @pytest.mark.parametrize(
        ("stored", "expected"),
        [
            ("{ssha256}x", ("SSHA256", "", "x")),
            ("{Sha.Hex}x", ("SHA", "HEX", "x")),
            ("{PLAIN.base64}x", ("PLAIN", "B64", "x")),
            ("{PLAIN.b64}{x}", ("PLAIN", "B64", "{x}")),
            ("x", ("PLAIN", "", "x")),
            ("{PLAIN", ("PLAIN", "", "{PLAIN")),
            ("", ("PLAIN", "", "")),
            ("$1$salt$hash", ("MD5-CRYPT", "", "$1$salt$hash")),
            ("$1$salt$hash$rest$more", ("MD5-CRYPT", "", "$1$salt$hash")),
            ("$1$salt", ("PLAIN", "", "$1$salt")),
            ("$6$salt$hash", ("PLAIN", "", "$6$salt$hash")),
            ("{PLAIN}secret\0rest", ("PLAIN", "", "secret")),
        ],
    )
    def test_a_stored_password_names_its_scheme(self, stored: str, expected: tuple[str, str, str]) -> None:
        """Prefix and suffix count in any case; a bare ``$1$…$…`` is MD5-CRYPT; all else has the default scheme."""
        assert expected == split_scheme(stored)

    def test_a_default_scheme_may_have_a_suffix(self) -> None:
        """``default_scheme`` is written as the prefix would be."""
        assert verify(b"x", "78", default_scheme="plain.hex")

    @pytest.mark.parametrize(
        "name", ["NOSUCH", "SHA256.b32", "SHA.", "SHA.hex.b64", ".hex", "", "\u017fHA", "\xdfHA", " SHA"]
    )
    def test_an_unknown_scheme_is_named_as_it_was_written(self, name: str) -> None:
        """No name is close enough, not even one that Unicode calls the same."""
        with pytest.raises(UnknownScheme) as caught:
            split_scheme(f"{{{name}}}x")
        assert f"Unknown scheme {name}" == str(caught.value)

    def test_the_name_argon2_came_with_2_4(self) -> None:
        """A 2.3 script that stores it gets 2.3's answer."""
        stored = "{ARGON2}$argon2id$v=19$m=256,t=3,p=1$c2FsdFNBTFQ$TayRv7UsPmwuZ/QnI6MIxQ"
        assert verify(b"secret123", stored)
        with pytest.raises(UnknownScheme):
            verify(b"secret123", stored, dialect=Dialect.V2_3)
        assert {"ARGON2"} == set(schemes()) - set(schemes(Dialect.V2_3))

    def test_a_decode_error_is_the_line_dovecot_logs(self) -> None:
        """It names the scheme as it was written."""
        with pytest.raises(MalformedHash) as caught:
            verify(b"x", "{sha256.hex}zz")
        assert (
            str(caught.value) == "Password data is not valid for scheme sha256.hex: Input isn't valid HEX encoded data"
        )
        assert caught.value.stage == "decode"

    def test_a_verify_error_is_the_bare_reason(self) -> None:
        """The words in front of it are the caller's, as in Dovecot."""
        with pytest.raises(MalformedHash) as caught:
            verify(b"x", "{SSHA}QQ==")
        assert (str(caught.value), caught.value.stage) == ("SSHA password is too short", "verify")

    def test_passwords_end_at_a_nul(self) -> None:
        """Of the given one as of the stored one, C sees no more."""
        assert verify(b"secret\0x", "{PLAIN}secret\0y")
        assert encode(b"secret\0x", "PLAIN") == "{PLAIN}secret"


class TestPromises:
    """Whatever comes in, nothing else comes out."""

    @settings(deadline=None)
    @given(
        passwords, octets | st.text(max_size=40), st.sampled_from(FAST + SLOW), st.sampled_from(["", ".hex", ".B64"])
    )
    @example(b"", "\ud800", "DIGEST-MD5", "")
    def test_nothing_but_the_two_errors_is_raised(self, password: bytes, data: str, name: str, suffix: str) -> None:
        """Any text at all, under any scheme, is verified, split and sorted without surprise."""
        for stored in data, f"{{{name}{suffix}}}{data}":
            is_slow(stored)
            try:
                split_scheme(stored)
                credentials(stored, "", user=data)
                verify(password, stored, user=data)
            except (MalformedHash, UnknownScheme):
                pass

    @settings(deadline=None)
    @given(st.data())
    def test_a_damaged_hash_raises_nothing_else_either(self, data: st.DataObject) -> None:
        """A good hash with one piece replaced is the likeliest thing to find in a database."""
        name = data.draw(st.sampled_from([name for name in FAST + SLOW if name != "OTP"]))
        stored = encode(b"secret", name, user="u", rounds=1)
        start = data.draw(st.integers(0, len(stored)))
        piece = data.draw(octets | st.sampled_from(["$", ",", "9" * 5000, "=", "0", "\0"]))
        error = None
        try:
            verify(b"secret", stored[:start] + piece + stored[start + len(piece) :], user="u")
        except MalformedHash as raised:
            error = str(raised)
        except UnknownScheme:
            pass
        assert error is None or "secret" not in error

    @given(passwords, st.sampled_from(FAST))
    def test_what_was_made_verifies(self, password: bytes, name: str) -> None:
        """In each of the fast schemes, and with each suffix."""
        for suffix in "", ".HEX", ".B64":
            assert verify(password, encode(password, name + suffix, user="timo@example.com"), user="timo@example.com")

    @settings(max_examples=12, deadline=None)
    @given(passwords, st.sampled_from(SLOW))
    def test_what_was_made_slowly_verifies(self, password: bytes, name: str) -> None:
        """In each of the slow schemes."""
        assert verify(password, encode(password, name))

    @pytest.mark.parametrize("name", SLOW + ARGON)
    def test_each_slow_scheme_takes_its_own_and_nothing_else(self, name: str) -> None:
        """The property above, for every one of them, and for Argon2, which is too slow for more."""
        stored = encode("pässwörd".encode(), name)
        assert [verify(text.encode(), stored) for text in ("pässwörd", "passwörd", "")] == [True, False, False]

    @given(passwords, passwords, st.sampled_from(FAST))
    def test_another_password_never_verifies(self, password: bytes, other: bytes, name: str) -> None:
        """Neither one byte more nor anything else."""
        stored = encode(password, name, user="u")
        for wrong in other, password + b"x":
            same = wrong.partition(b"\0")[0] == password.partition(b"\0")[0]
            assert same == verify(wrong, stored, user="u")

    @settings(max_examples=12, deadline=None)
    @given(passwords, passwords, st.sampled_from(SLOW))
    def test_another_password_never_verifies_slowly_either(self, password: bytes, other: bytes, name: str) -> None:
        """Except beyond the bytes the scheme looks at, and DES drops the eighth bit of those."""

        def seen(text: bytes) -> bytes:
            text = text.partition(b"\0")[0][: REACH.get(name)]
            # DES fills up with zero bits, and 128 has no others
            return bytes(byte & 127 for byte in text).rstrip(b"\0") if name == "DES-CRYPT" else text

        assert (seen(password) == seen(other)) == verify(other, encode(password, name))

    def test_the_user_is_part_of_digest_md5_alone(self) -> None:
        """And there the realm is what follows the last ``@``."""
        stored = encode(b"secret", "DIGEST-MD5", user="a@b@c")
        assert verify(b"secret", stored, user="a@b@c")
        assert not verify(b"secret", stored, user="a@b")


class TestWhatIsRefused:
    """Hashes that cost too much, schemes that protect too little."""

    @pytest.mark.parametrize(
        "stored",
        [
            "{ARGON2ID}$argon2id$v=19$m=1048577,t=3,p=1$c2FsdFNBTFQ$TayRv7UsPmwuZ/QnI6MIxQ",
            "{ARGON2ID}$argon2id$v=19$m=1048576,t=65,p=1$c2FsdFNBTFQ$TayRv7UsPmwuZ/QnI6MIxQ",
            "{ARGON2I}$argon2i$v=19$m=8,t=4294967295,p=1$c2FsdFNBTFQ$TayRv7UsPmwuZ/QnI6MIxQ",
            "{BLF-CRYPT}$2y$21$abcdefghijklmnopqrstuufvjuf7CcaH07fRiVpDJzStoWzfjAMP6",
            "{CRYPT}$2b$31$abcdefghijklmnopqrstuufvjuf7CcaH07fRiVpDJzStoWzfjAMP6",
            "{SHA512-CRYPT}$6$rounds=10000001$salt$x",
            "{SHA256-CRYPT}$5$rounds=999999999$salt$x",
            "{CRYPT}$md5,rounds=10000001$salt$$x",
            "{CRYPT}$sha1$10000001$salt$x",
            "{CRYPT}$sha1$99999999999999999999$salt$x",
            "{CRYPT}$y$jGT$salt$x",
            "{CRYPT}$gy$jxT$salt$x",
            "{CRYPT}$y$jzz5.$salt$x",
            "{CRYPT}$y$j0x0$salt$x",
            "{CRYPT}$y$j9T/zzz$salt$x",
            "{CRYPT}$y$j9T1z/$salt$x",
            "{CRYPT}$y$jCT1kk$salt$x",
            "{CRYPT}$7$HU..../....salt$x",
            "{CRYPT}$7$CzzzzzU....salt$x",
            "{CRYPT}$7$CU..../z...salt$x",
            "{CRYPT}_zzzzsaltxxxxxxxxxxx",
            "{PBKDF2}$1$salt$10000001$0000000000000000000000000000000000000000",
            "{SCRAM-SHA-1}10000001,QQ==,YWFhYWFhYWFhYWFhYWFhYWFhYWE=,YmJiYmJiYmJiYmJiYmJiYmJiYmI=",
            "{OTP}sha1 100001 seed 0011223344556677",
        ],
    )
    def test_a_hash_that_would_take_minutes_is_not_begun(self, stored: str) -> None:
        """It is the admin's to know, so it is an error and no mismatch."""
        with pytest.raises(MalformedHash, match="more than") as caught:
            verify(b"secret", stored)
        assert caught.value.stage == "verify"

    def test_the_limits_can_be_moved(self) -> None:
        """For who has the time."""
        stored = encode(b"secret", "PBKDF2", rounds=101)
        assert verify(b"secret", stored)
        with pytest.raises(MalformedHash, match=r"count of 101 is more than the 100 that hashes\.pbkdf2_rounds allows"):
            verify(b"secret", stored, limits=LIMITS._replace(pbkdf2_rounds=100))

    def test_no_memory_says_nothing_about_the_password(self) -> None:
        """Argon2 without the memory it asks for is a failure; a mismatch would be a lie."""
        script = (
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29));"
            "from authlua.passwords import *;"
            "stored = '{ARGON2ID}$argon2id$v=19$m=1048576,t=3,p=1$c2FsdFNBTFQ$TayRv7UsPmwuZ/QnI6MIxQ'\n"
            "try: print(verify(b'x', stored))\n"
            "except MalformedHash as error: print(error)"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert ran.stdout == "Argon2 failed: Memory allocation error\n"

    @pytest.mark.parametrize(
        ("stored", "weak"),
        [
            ("{MD5}$1$salt$x", "MD5"),
            ("{md5-crypt}$1$salt$x", "MD5-CRYPT"),
            ("{SMD5}QQ==", "SMD5"),
            ("{HMAC-MD5}" + "0" * 64, "HMAC-MD5"),
            ("{PLAIN-MD4}" + "0" * 32, "PLAIN-MD4"),
            ("{PLAIN-MD5}" + "0" * 32, "PLAIN-MD5"),
            ("{LDAP-MD5.hex}" + "0" * 32, "LDAP-MD5"),
            ("{DES-CRYPT}$6$salt$x", "DES-CRYPT"),
            ("{CRYPT}abhv/ZnAzL36k", "DES-CRYPT"),
            ("{SHA512-CRYPT}_J9..rasmprBfkwn2LmA", "DES-CRYPT"),
            ("{CRYPT}$1$salt$x", "MD5-CRYPT"),
        ],
    )
    def test_a_weak_scheme_is_refused_where_it_is_not_allowed(self, stored: str, weak: str) -> None:
        """By 2.4's list, and by what is really behind CRYPT (``core:2.4.4:src/lib-auth/password-scheme.c``)."""
        assert not verify(b"secret", stored) if weak != "SMD5" else True
        with pytest.raises(MalformedHash) as caught:
            verify(b"secret", stored, allow_weak=False)
        assert f"Weak password scheme '{weak}' used and refused" == str(caught.value)

    @pytest.mark.parametrize("name", ["PLAIN", "SSHA", "SHA1", "CRAM-MD5", "SHA512-CRYPT", "CRYPT", "PBKDF2"])
    def test_all_others_stay_allowed(self, name: str) -> None:
        """SHA-1 and CRAM-MD5 are old, but not on the list."""
        assert verify(b"secret", encode(b"secret", name), allow_weak=False)

    def test_a_chain_of_less_than_no_steps_matches_nothing(self) -> None:
        """Dovecot would count to four thousand million first."""
        made = entry("sha1", -1, b"seed", b"secret").decode()
        assert not verify(b"secret", f"{{OTP}}{made}")

    def test_a_pbkdf2_of_no_rounds_matches_nothing(self) -> None:
        """Where Dovecot's twenty zeros match every password."""
        assert not verify(b"secret", "{PBKDF2}$1$salt$0$" + "0" * 40)


class TestMaking:
    """``encode``"""

    @pytest.mark.parametrize(
        ("name", "rounds", "beginning"),
        [
            ("blf-crypt", None, "{BLF-CRYPT}$2y$05$"),
            ("CRYPT", 3, "{CRYPT}$2y$04$"),
            ("SHA512-CRYPT", 0, "{SHA512-CRYPT}$6$"),
            ("SHA512-CRYPT", 999, "{SHA512-CRYPT}$6$rounds=1000$"),
            ("SHA256-CRYPT", 5001, "{SHA256-CRYPT}$5$rounds=5001$"),
            ("MD5", None, "{MD5}$1$"),
            ("ARGON2I", None, "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$"),
            ("ARGON2I", 3, "{ARGON2I}$argon2i$v=19$m=32768,t=3,p=1$"),
            ("ARGON2I", 6, "{ARGON2I}$argon2i$v=19$m=131072,t=6,p=1$"),
            ("ARGON2ID", None, "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$"),
            ("ARGON2", 2, "{ARGON2}$argon2id$v=19$m=65536,t=3,p=1$"),
            ("ARGON2ID", 3, "{ARGON2ID}$argon2id$v=19$m=262144,t=3,p=1$"),
            ("SCRAM-SHA-256", 17, "{SCRAM-SHA-256}4096,"),
            ("SCRAM-SHA-1", 5000, "{SCRAM-SHA-1}5000,"),
            ("OTP", None, "{OTP}sha1 1024 "),
            ("plain.b64", None, "{PLAIN.B64}c2VjcmV0"),
        ],
    )
    def test_costs_and_defaults_are_those_of_doveadm(self, name: str, rounds: int | None, beginning: str) -> None:
        """``-r`` means the same, and is bounded the same way."""
        assert encode(b"secret", name, rounds=rounds).startswith(beginning)

    @pytest.mark.parametrize(
        "name", ["SSHA", "SMD5", "DES-CRYPT", "SHA512-CRYPT", "PBKDF2", "SCRAM-SHA-1", "OTP", "CRYPT"]
    )
    def test_no_two_hashes_are_the_same(self, name: str) -> None:
        """Each has its own salt."""
        assert len({encode(b"secret", name) for _ in range(4)}) == 4

    @pytest.mark.parametrize(
        ("name", "rounds"), [("ARGON2I", 2), ("SSHA", -1), ("PBKDF2", 1 << 32), ("DIGEST-MD5", None)]
    )
    def test_what_cannot_be_made_is_an_error(self, name: str, rounds: int | None) -> None:
        """DIGEST-MD5 without a user would be everybody's."""
        with pytest.raises(ValueError, match=r"rounds|user name"):
            encode(b"secret", name, rounds=rounds)

    def test_a_password_too_long_for_crypt_makes_no_hash(self) -> None:
        """Instead of the ``*0`` libxcrypt returns, which nothing matches."""
        with pytest.raises(ValueError, match="511 bytes"):
            encode(b"x" * 600, "SHA512-CRYPT")

    def test_a_truncated_plain_password_is_made_so_that_only_itself_fits(self) -> None:
        """Its length prefix says that nothing was cut off."""
        assert [verify(text, encode(b"secret", "PLAIN-TRUNC")) for text in (b"secret", b"secret1", b"secre")] == [
            True,
            False,
            False,
        ]
        assert not verify(b"x", encode(b"", "PLAIN-TRUNC"))


class TestCredentials:
    """What challenge-response mechanisms get."""

    def test_the_scheme_itself_and_its_aliases_are_decoded(self) -> None:
        """Whatever they are called and however they are encoded."""
        raw = credentials("{HMAC-MD5}" + "ab" * 32, "CRAM-MD5", user="u")
        assert b"\xab" * 32 == raw == credentials("{CRAM-MD5.b64}" + "q6ur" * 10 + "q6s=", "CRAM-MD5", user="u")
        assert (
            b"text" == credentials("text", "PLAIN", user="u") == credentials("{CLEAR.hex}74657874", "plain", user="u")
        )
        assert credentials("{PLAIN-TRUNC}6-secret", "PLAIN", user="u") == b"6-secret"

    @pytest.mark.parametrize("name", [name for name in schemes() if name not in ALIASES[0]])
    def test_a_scheme_has_these_aliases_and_no_others(self, name: str) -> None:
        """PLAIN aside, of which all others can be made."""
        stored = encode(b"secret", name, user="u") if name in FAST else f"{{{name}}}text"
        served = set()
        for wanted in schemes():
            with contextlib.suppress(SchemeMismatch):
                credentials(stored, wanted, user="u")
                served.add(wanted)
        assert served == next((names for names in ALIASES if name in names), {name})

    def test_whatever_there_is_will_do_when_nothing_is_wanted(self) -> None:
        """A lookup that is only after the fields."""
        assert credentials("{SHA512-CRYPT}$6$x", "", user="u") == b"$6$x"

    @pytest.mark.parametrize("wanted", ["CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-1", "OTP", "DIGEST-MD5", "SHA256"])
    def test_anything_is_made_from_plain(self, wanted: str) -> None:
        """And verifies the same password."""
        raw = credentials("{PLAIN}secret", wanted, user="timo")
        name = wanted if (raw.isascii() and b" " in raw) or b"," in raw else f"{wanted}.hex"
        text = raw.hex() if name.endswith("hex") else raw.decode()
        assert verify(b"secret", f"{{{name}}}{text}", user="timo")

    def test_a_plain_password_ends_at_a_nul_here_too(self) -> None:
        """However it was encoded."""
        assert credentials("{PLAIN.hex}780079", "SHA1", user="u") == credentials("x", "SHA1", user="u")

    def test_a_digest_is_for_the_realm_it_is_asked_for(self) -> None:
        """A name with a domain that is not the realm gets the realm behind it; a name without does not."""
        made = {
            realm: credentials("secret", "DIGEST-MD5", user="a@dom", realm=realm).hex() for realm in (None, "realm", "")
        }
        assert made == {
            None: encode(b"secret", "DIGEST-MD5", user="a@dom")[12:],
            "realm": encode(b"secret", "DIGEST-MD5", user="a@dom@realm")[12:],
            "": encode(b"secret", "DIGEST-MD5", user="a@dom@")[12:],
        }
        alone = credentials("secret", "DIGEST-MD5", user="a", realm="realm")
        assert encode(b"secret", "DIGEST-MD5", user="a")[12:] == alone.hex()

    def test_nothing_is_made_from_a_hash(self) -> None:
        """The text is Dovecot's, with the names as they were written."""
        with pytest.raises(SchemeMismatch) as caught:
            credentials("{ssha256.b64}QQ==", "SCRAM-SHA-1", user="u")
        assert str(caught.value) == "Requested SCRAM-SHA-1 scheme, but we have only ssha256.b64"

    def test_undecodable_and_unknown_stay_errors(self) -> None:
        """As in verifying."""
        with pytest.raises(MalformedHash):
            credentials("{SHA}!", "SHA1", user="u")
        with pytest.raises(UnknownScheme):
            credentials("{NOSUCH}x", "PLAIN", user="u")

    def test_making_scram_keys_is_slow_and_reading_them_is_not(self) -> None:
        """The caller knows beforehand."""
        assert is_slow("{PLAIN}x", wanted="SCRAM-SHA-1")
        assert is_slow("x", wanted="scram-sha-256")
        assert not is_slow("{SCRAM-SHA-1}x", wanted="SCRAM-SHA-1")
        assert not is_slow("{PLAIN}x", wanted="CRAM-MD5")
        assert not is_slow("{CRYPT}x", wanted="SCRAM-SHA-1")


class TestCost:
    """What a login pays for what it does not need."""

    @pytest.mark.parametrize(
        ("stored", "slow"),
        [
            ("x", False),
            ("{SSHA512}x", False),
            ("{CRYPT}x", True),
            ("{ARGON2ID}x", True),
            ("$1$salt$hash", True),
            ("{pbkdf2}x", True),
            ("{NOSUCH}x", False),
        ],
    )
    def test_what_takes_long_is_known_from_the_scheme(self, stored: str, slow: bool) -> None:
        """So that the caller can leave the event loop first."""
        assert slow == is_slow(stored)

    def test_libraries_are_loaded_by_the_first_hash_that_needs_them(self) -> None:
        """A server full of SSHA never loads bcrypt, and the command line starts fast."""
        script = (
            "import sys; from authlua.passwords import verify; "
            "verify(b'x', '{PLAIN}x'); verify(b'x', '{SSHA}' + 'A' * 40);"
            "print(sorted({'bcrypt', 'argon2', 'ctypes', '_cffi_backend', 'trio', 'inspect'} & set(sys.modules)))"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert ran.stdout == "[]\n"


def test_base64_is_read_in_every_python_alike() -> None:
    """What `binascii` calls well-formed has changed over time; what we do has not."""
    assert verify(b"secre", "{PLAIN.b64}c2Vj cmU\t=\n")
    assert verify(b"secret", "{PLAIN.b64}" + " ".join("c2VjcmV0"))
    for wrong in (
        "c2VjcmU",
        "c2VjcmU==",
        "c2VjcmV0=",
        "c2VjcmV0====",
        "c2VjcmU=c2Vj",
        "=",
        "====",
        "A===",
        "c2V-",
        "c2Vj\v",
    ):
        with pytest.raises(MalformedHash, match="isn't valid base64"):
            verify(b"secret", f"{{PLAIN.b64}}{wrong}")


@given(st.binary(max_size=64))
def test_the_two_encodings_undo_themselves(data: bytes) -> None:
    """Any bytes stored as hex or base64 come back."""
    data = data.replace(b"\0", b"")
    for name in "PLAIN.hex", "PLAIN.b64":
        stored = encode(data, name)
        assert data == credentials(stored, "", user="")
    assert data == a2b_base64(stored[11:]) == bytes.fromhex(encode(data, "PLAIN.hex")[11:])


def test_random_salts_use_the_whole_alphabet() -> None:
    """64 different characters, each a digit of crypt(3)."""
    from authlua.passwords.scheme import ALPHABET, salt

    assert set(ALPHABET) == set(salt(4096))
    assert len(set(ALPHABET)) == 64
