"""The examples in the documents that define the mechanisms come out as they stand there."""

import json

import pytest

from authlua import passwords
from authlua.dialect import Dialect
from authlua.passwords.otp import entry
from authlua.sasl import MECHS, SetCertificateUser, SetCredentials, SetUser, Succeeded, VerifyPlain
from authlua.sasl.cram_md5 import hmac_md5
from authlua.sasl.digest_md5 import kd
from authlua.sasl.otp import _read_words
from authlua.secret import Secret
from tests.sasl.talking import TERMS, Passdb, saying, talk


def test_rfc_2195() -> None:
    """CRAM-MD5, section 2."""
    stored = passwords.credentials("{PLAIN}tanstaaftanstaaf", "CRAM-MD5", user="tim")
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert hmac_md5(stored, challenge) == b"b913a602c7eda7a495b4e6e7334d3890"


def test_rfc_2831() -> None:
    """DIGEST-MD5, section 4: both directions."""
    stored = passwords.credentials("{PLAIN}secret", "DIGEST-MD5", user="chris@elwood.innosoft.com")
    response = {
        "nonce": b"OA6MG9tEQGm2hh",
        "cnonce": b"OA6MHXh6VqTrRk",
        "nc": b"00000001",
        "qop": b"auth",
        "digest-uri": b"imap/elwood.innosoft.com",
    }
    assert kd(Secret(stored), response, b"AUTHENTICATE") == b"d388dad90d4bbd760a152321f2143af7"
    assert kd(Secret(stored), response, b"") == b"ea40f60335c427b5527b84dbabcdfffd"


@pytest.mark.parametrize(
    ("mech", "cnonce", "snonce", "salt", "proof", "signature"),
    [
        pytest.param(
            "SCRAM-SHA-1",
            "fyko+d2lbbFgONRv9qkxdawL",
            "3rfcNHYJY1ZVvWVs7j",
            "QSXCR+Q6sek8bf92",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            id="RFC 5802 section 5",
        ),
        pytest.param(
            "SCRAM-SHA-256",
            "rOprNGfwEbeRWgbNEkqO",
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            id="RFC 7677 section 3",
        ),
    ],
)
def test_rfc_5802_and_7677(
    mech: str, cnonce: str, snonce: str, salt: str, proof: str, signature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SCRAM: the server's first message, its judgement and its last message."""
    monkeypatch.setattr("authlua.passwords.scram.urandom", lambda size: passwords.from_base64(salt.encode()))
    monkeypatch.setattr("authlua.sasl.scram._nonce", lambda terms: snonce.encode())
    final = f"c=biws,r={cnonce}{snonce},p={proof}".encode()
    terms = TERMS._replace(enabled=frozenset({mech}))
    talked = talk(MECHS[mech], f"n,,n=user,r={cnonce}".encode(), saying(final), Passdb(b"pencil"), terms)
    assert talked.challenges == [f"r={cnonce}{snonce},s={salt},i=4096".encode()]
    assert talked.verdict == Succeeded(f"v={signature}".encode())


@pytest.mark.parametrize(("message", "target"), [(b"", None), (b"alice", "alice")])
def test_rfc_4422(message: bytes, target: str | None) -> None:
    """EXTERNAL, appendix A: who to become, or nothing; a passdb must be content with an empty password."""
    talked = talk(MECHS["EXTERNAL"], message, saying(), Passdb(b""))
    assert talked.wishes == [SetCertificateUser(target), VerifyPlain(Secret(b""))]
    assert talked.accepted


def test_rfc_7628() -> None:
    """OAUTHBEARER, sections 4.1 and 4.3: a client's message, and the words of a refusal."""
    token = b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
    message = b"n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer " + token + b"\1\1"
    accepted = talk(MECHS["OAUTHBEARER"], message, saying(), Passdb(token))
    assert accepted.wishes == [SetUser("user@example.com"), VerifyPlain(Secret(token))]
    assert accepted.accepted
    url = "https://example.com/.well-known/openid-configuration"
    terms = TERMS._replace(dialect=Dialect.V2_4, openid_configuration_url=url)
    refused = talk(MECHS["OAUTHBEARER"], message, saying(), Passdb(b"another"), terms)
    assert not refused.accepted
    assert json.loads(refused.verdict.data) == {  # type: ignore[union-attr]
        "status": "invalid_token",
        "scope": "mail",
        "openid-configuration": url,
    }


RFC_2289 = {
    ("md4", "This is a test.", "TeSt", 0): ("D1854218EBBB0B51", "ROME MUG FRED SCAN LIVE LACE"),
    ("md4", "This is a test.", "TeSt", 1): ("63473EF01CD0B444", "CARD SAD MINI RYE COL KIN"),
    ("md4", "This is a test.", "TeSt", 99): ("C5E612776E6C237A", "NOTE OUT IBIS SINK NAVE MODE"),
    ("md4", "AbCdEfGhIjK", "alpha1", 0): ("50076F47EB1ADE4E", "AWAY SEN ROOK SALT LICE MAP"),
    ("md4", "AbCdEfGhIjK", "alpha1", 1): ("65D20D1949B5F7AB", "CHEW GRIM WU HANG BUCK SAID"),
    ("md4", "AbCdEfGhIjK", "alpha1", 99): ("D150C82CCE6F62D1", "ROIL FREE COG HUNK WAIT COCA"),
    ("md4", "OTP's are good", "correct", 0): ("849C79D4F6F55388", "FOOL STEM DONE TOOL BECK NILE"),
    ("md4", "OTP's are good", "correct", 1): ("8C0992FB250847B1", "GIST AMOS MOOT AIDS FOOD SEEM"),
    ("md4", "OTP's are good", "correct", 99): ("3F3BF4B4145FD74B", "TAG SLOW NOV MIN WOOL KENO"),
    ("md5", "This is a test.", "TeSt", 0): ("9E876134D90499DD", "INCH SEA ANNE LONG AHEM TOUR"),
    ("md5", "This is a test.", "TeSt", 1): ("7965E05436F5029F", "EASE OIL FUM CURE AWRY AVIS"),
    ("md5", "This is a test.", "TeSt", 99): ("50FE1962C4965880", "BAIL TUFT BITS GANG CHEF THY"),
    ("md5", "AbCdEfGhIjK", "alpha1", 0): ("87066DD9644BF206", "FULL PEW DOWN ONCE MORT ARC"),
    ("md5", "AbCdEfGhIjK", "alpha1", 1): ("7CD34C1040ADD14B", "FACT HOOF AT FIST SITE KENT"),
    ("md5", "AbCdEfGhIjK", "alpha1", 99): ("5AA37A81F212146C", "BODE HOP JAKE STOW JUT RAP"),
    ("md5", "OTP's are good", "correct", 0): ("F205753943DE4CF9", "ULAN NEW ARMY FUSE SUIT EYED"),
    ("md5", "OTP's are good", "correct", 1): ("DDCDAC956F234937", "SKIM CULT LOB SLAM POE HOWL"),
    ("md5", "OTP's are good", "correct", 99): ("B203E28FA525BE47", "LONG IVY JULY AJAR BOND LEE"),
    ("sha1", "This is a test.", "TeSt", 0): ("BB9E6AE1979D8FF4", "MILT VARY MAST OK SEES WENT"),
    ("sha1", "This is a test.", "TeSt", 1): ("63D936639734385B", "CART OTTO HIVE ODE VAT NUT"),
    ("sha1", "This is a test.", "TeSt", 99): ("87FEC7768B73CCF9", "GAFF WAIT SKID GIG SKY EYED"),
    ("sha1", "AbCdEfGhIjK", "alpha1", 0): ("AD85F658EBE383C9", "LEST OR HEEL SCOT ROB SUIT"),
    ("sha1", "AbCdEfGhIjK", "alpha1", 1): ("D07CE229B5CF119B", "RITE TAKE GELD COST TUNE RECK"),
    ("sha1", "AbCdEfGhIjK", "alpha1", 99): ("27BC71035AAF3DC6", "MAY STAR TIN LYON VEDA STAN"),
    ("sha1", "OTP's are good", "correct", 0): ("D51F3E99BF8E6F0B", "RUST WELT KICK FELL TAIL FRAU"),
    ("sha1", "OTP's are good", "correct", 1): ("82AEB52D943774E4", "FLIT DOSE ALSO MEW DRUM DEFY"),
    ("sha1", "OTP's are good", "correct", 99): ("4F296A74FE1567EC", "AURA ALOE HURL WING BERG WAIT"),
}
"""Appendix C, all of it: algorithm, pass phrase, seed and count; then the number, and the words for it."""


@pytest.mark.parametrize(("algorithm", "phrase", "seed", "count"), RFC_2289)
def test_rfc_2289(algorithm: str, phrase: str, seed: str, count: int) -> None:
    """OTP: the number, and the six words that stand for it."""
    digits, words = RFC_2289[algorithm, phrase, seed, count]
    assert entry(algorithm, count, seed.encode(), phrase.encode()).split()[-1].decode() == digits.lower()
    assert _read_words(words.lower()) == (bytes.fromhex(digits), "")


@pytest.mark.parametrize("form", ["hex", "word"])
def test_a_login_of_rfc_2444_leads_down_the_chain(form: str) -> None:
    """Each login is asked for the password before the stored one, and stores what it was told."""
    digits, words = RFC_2289["sha1", "This is a test.", "TeSt", 99]
    stored = entry("sha1", 100, b"test", b"This is a test.")
    answer = f"hex:{digits}" if form == "hex" else f"word:{words}"
    talked = talk(MECHS["OTP"], b"\0alice", saying(answer.encode()), Passdb(stored={"OTP": stored}))
    assert talked.challenges == [b"otp-sha1 99 test ext"]
    assert talked.wishes[-1] == SetCredentials("OTP", Secret(f"sha1 99 test {digits.lower()}".encode()))
    assert talked.accepted


def test_an_otp_login_in_words_may_begin_a_new_chain() -> None:
    """RFC 2243's ``init-word:``, the old password in words and the new one too."""
    words, new = (RFC_2289["md5", "This is a test.", "TeSt", count] for count in (99, 1))
    stored = entry("md5", 100, b"test", b"This is a test.")
    answer = f"init-word:{words[1]}:md5 499 New1:{new[1]}".encode()
    talked = talk(MECHS["OTP"], b"\0alice", saying(answer), Passdb(stored={"OTP": stored}))
    assert talked.wishes[-1] == SetCredentials("OTP", Secret(f"md5 499 new1 {new[0].lower()}".encode()))
