"""Messages that no client should send are refused with the words that Dovecot logs for them."""

import pytest

from authlua.results import PassdbResult
from authlua.sasl import MECHS, Refused, SetRealm, SetUser, Terms
from tests.sasl.talking import TERMS, Passdb, saying, talk

SCRAM = frozenset({"SCRAM-SHA-1"})
BOTH = frozenset({"SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"})
PLUS = frozenset({"SCRAM-SHA-1-PLUS"})
GS2 = "Invalid initial client message: "


@pytest.mark.parametrize(
    ("enabled", "message", "reason"),
    [
        (SCRAM, b"", f"{GS2}Missing first ',' in GS2 header"),
        (SCRAM, b"n,a=x", f"{GS2}Missing second ',' in GS2 header"),
        (SCRAM, b"n,,n=alice", f"{GS2}Missing nonce field"),
        (SCRAM, b"x,,n=alice,r=abc", "Invalid GS2 header"),
        (SCRAM, b",,n=alice,r=abc", "Invalid GS2 header"),
        (BOTH, b"p,,n=alice,r=abc", "Invalid GS2 header"),
        (BOTH, b"p=,,n=alice,r=abc", "Invalid GS2 header"),
        (SCRAM, b"p=tls-unique,,n=alice,r=abc", "Channel binding not supported"),
        (BOTH, b"y,,n=alice,r=abc", "Potential downgrade attack detected"),
        (PLUS, b"n,,n=alice,r=abc", "Channel binding required"),
        (SCRAM, b"n,alice,n=alice,r=abc", "Invalid authzid field"),
        (SCRAM, b"n,a==2c,n=alice,r=abc", "authzid escaping is invalid"),
        (SCRAM, b"n,,m=x,n=alice,r=abc", "Mandatory extension(s) not supported"),
        (SCRAM, b"n,,u=alice,r=abc", "Invalid username field"),
        (SCRAM, b"n,,n=a=,r=abc", "Username escaping is invalid"),
        (SCRAM, b"n,,n=alice,x=abc", "Invalid client nonce"),
    ],
)
def test_a_first_message_of_scram(enabled: frozenset[str], message: bytes, reason: str) -> None:
    """``core:2.4.1:src/lib-auth/auth-scram-server.c:auth_scram_parse_client_first``."""
    talked = talk(MECHS["SCRAM-SHA-1"], message, saying(), Passdb(b"secret"), Terms(enabled=enabled))
    assert talked == ([], [], Refused(reason))


@pytest.mark.parametrize("flag", [b"n", b"y", b"no", b"yes"])
def test_without_plus_a_client_may_say_that_it_can_bind_or_not(flag: bytes) -> None:
    """Only the first letter counts, as in Dovecot."""
    message = flag + b",,n=a=2Cb=3D,r=abc"
    talked = talk(MECHS["SCRAM-SHA-1"], message, saying(), Passdb(b"secret"), Terms(enabled=SCRAM))
    assert talked.wishes[0] == SetUser("a,b=")
    assert len(talked.challenges) == 1


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (b"4096,c2FsdA==,x", "Invalid SCRAM-SHA-1 passdb entry format"),
        (b"4095,c2FsdA==,x,y", "Invalid SCRAM-SHA-1 iteration count in passdb"),
        (b"4096,c2FsdA==,AAAA,y", "Invalid SCRAM-SHA-1 StoredKey in passdb"),
        (b"4096,c2FsdA==,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,y", "Invalid SCRAM-SHA-1 ServerKey in passdb"),
    ],
)
def test_stored_keys_of_scram_that_are_none(stored: bytes, reason: str) -> None:
    """The user is refused; nothing of what is stored is in the log."""
    passdb = Passdb(stored={"SCRAM-SHA-1": stored})
    talked = talk(MECHS["SCRAM-SHA-1"], b"n,,n=alice,r=abc", saying(), passdb, Terms(enabled=SCRAM))
    assert talked.verdict == Refused(reason)


@pytest.mark.parametrize(
    ("final", "reason"),
    [
        (b"c=biws,r=x", "Invalid final client message"),
        (b"c=biws,r={nonce},x=AAAA", "Invalid ClientProof"),
        (b"c=biws,r={nonce},p=A", "Invalid base64 encoding"),
        (b"c=biws,r={nonce},p=AAAA", "Invalid ClientProof length"),
        (b"c=biws,r={nonce},p=AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "Password mismatch"),
        (b"c=biws,r={nonce},e=xt,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "Password mismatch"),
    ],
)
def test_a_last_message_of_scram(final: bytes, reason: str) -> None:
    """``core:2.4.1:src/lib-auth/auth-scram-server.c:auth_scram_parse_client_final``."""

    def answer(challenge: bytes) -> bytes:
        return final.replace(b"{nonce}", challenge.partition(b",")[0].removeprefix(b"r="))

    talked = talk(MECHS["SCRAM-SHA-1"], b"n,,n=alice,r=abc", answer, Passdb(b"secret"), Terms(enabled=SCRAM))
    assert talked.verdict == Refused(reason)


DIGEST = 'username="bob",nonce="{nonce}",cnonce="c",digest-uri="imap/x",response=' + "0" * 32


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "Client sent no input"),
        ("nonsense", "Missing nonce parameter"),
        (f'{DIGEST},username="eve"', "username must not exist more than once"),
        ('username=""', "empty username"),
        ('nonce="other"', "Invalid nonce"),
        (f"{DIGEST},cnonce=d", "cnonce must not exist more than once"),
        ("cnonce=", "cnonce can't contain empty value"),
        ("nc=x", "nonce-count value invalid"),
        ("nc=00000002", "re-auth not supported currently"),
        ("nc=1,nc=1", "nonce-count must not exist more than once"),
        ("qop=zzz", "Unknown QoP value: zzz"),
        ("QOP = auth-int", "Unknown QoP value:  auth-int"),
        ("qop=auth-conf", "Nonallowed QoP requested"),
        ("digest-uri=imap", "Invalid digest-uri"),
        ("maxbuf=0", "Invalid maxbuf value"),
        ("maxbuf=1,maxbuf=1", "maxbuf must not exist more than once"),
        ("charset=latin1", "Only utf-8 charset is allowed"),
        ("response=1", "Invalid response value"),
        ('authzid=""', "empty authzid"),
        ("authzid=a,authzid=a", "authzid must not exist more than once"),
        (DIGEST.replace('cnonce="c",', ""), "Missing cnonce parameter"),
        (DIGEST.replace('username="bob",', ""), "Missing username parameter"),
        (DIGEST, "Password mismatch"),
    ],
)
def test_a_response_of_digest_md5(response: str, reason: str) -> None:
    """``core:2.3.21.1:src/auth/mech-digest-md5.c:auth_handle_response``."""
    nonce = "AAAAAAAAAAAAAAAAAAAAAA=="
    terms = TERMS._replace(random=bytes)
    said = saying(response.replace("{nonce}", nonce).encode())
    assert talk(MECHS["DIGEST-MD5"], None, said, Passdb(b"secret"), terms).verdict == Refused(reason)


@pytest.mark.parametrize(
    ("response", "user", "realm", "login_user"),
    [
        ('username="b\\"o\\\\b"', 'b"o\\b', None, None),
        (" , , username = bob , ,", " bob", None, None),
        ('username="bob",realm="x.org",realm="y.org"', "bob@x.org", "x.org", None),
        ('username="bob@z.org",realm="x.org"', "bob@z.org", "x.org", None),
        ('username="bob",realm="",authzid="eve"', "bob", None, "eve"),
        ('Username="bob"garbage, x', "bob", None, None),
        ('username="bob', "bob", None, None),
        ('username="bob\\', "bob\\", None, None),
    ],
)
def test_names_in_digest_md5(response: str, user: str, realm: str | None, login_user: str | None) -> None:
    """Quoted, escaped, repeated, cut off: read as Dovecot reads them. The realm is for the log."""
    rest = 'nonce="AAAAAAAAAAAAAAAAAAAAAA==",cnonce=c,'
    talked = talk(
        MECHS["DIGEST-MD5"], None, saying((rest + response).encode()), Passdb(b"x"), TERMS._replace(random=bytes)
    )
    assert talked.wishes[0] == SetUser(user, login_user)
    assert [wish.realm for wish in talked.wishes if isinstance(wish, SetRealm)] == ([] if realm is None else [realm])


@pytest.mark.parametrize("mech", ["CRAM-MD5", "DIGEST-MD5"])
def test_stored_digests_of_another_length_are_an_error(mech: str) -> None:
    """Somebody has to look at the database."""
    said = {
        "CRAM-MD5": b"alice " + b"0" * 32,
        "DIGEST-MD5": DIGEST.replace("{nonce}", "AAAAAAAAAAAAAAAAAAAAAA==").encode(),
    }[mech]
    passdb = Passdb(stored={mech: b"short"})
    talked = talk(MECHS[mech], None, saying(said), passdb, TERMS._replace(random=bytes))
    assert talked.verdict == Refused("invalid credentials length", level="error")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "no initial response"),
        (b"<1.1.1.x@y>", "malformed data"),
        (b"<1.1.1.x@y>\0alice", "malformed data"),
        (b"<1.1.1.x@y>\0alice\0" + b"d" * 15, "malformed data"),
        (b"<1.1.x@y>\0alice\0" + b"d" * 16, "invalid challenge"),
        (b"<2.1.ffffffff.x@y>\0alice\0" + b"d" * 16, "invalid challenge"),
        (b"<1.2.ffffffff.x@y>\0alice\0" + b"d" * 16, "invalid challenge"),
        (b"<1.1.63.x@y>\0alice\0" + b"d" * 16, "invalid challenge"),
        (b"<1.1.64.x@y>\0alice\0" + b"d" * 16, "Password mismatch"),
    ],
)
def test_a_message_of_apop(message: bytes, reason: str) -> None:
    """Whoever's challenge it is not, or older than the server, is refused before anybody is asked."""
    talked = talk(MECHS["APOP"], message, saying(), Passdb(b"secret"), Terms(pid=1, started=100.5))
    assert talked.verdict == Refused(reason)


@pytest.mark.parametrize(
    ("stored", "answer", "reason"),
    [
        (b"nonsense", b"", "invalid OTP data in passdb"),
        (b"md5 1 ke1234 b254f324b85c640c", b"", "sequence number < 1"),
        (b"md5 99 ke1234 b254f324b85c640c", b"9bc29b075f3322d3", "unsupported response type"),
        (b"md5 99 ke1234 b254f324b85c640c", b"hex:9bc29b075f3322d", "invalid response"),
        (b"md5 99 ke1234 b254f324b85c640c", b"word:A B C D E NOSUCH", "invalid response"),
        (b"md5 99 ke1234 b254f324b85c640c", b"word:QQ QQ QQ QQ QQ QQ", "invalid response"),
        (b"md5 99 ke1234 b254f324b85c640c", b"init-hex:9bc29b075f3322d3", "invalid init response"),
        (b"md5 99 ke1234 b254f324b85c640c", b"init-hex:9bc29b075f3322d3:md9 1 x:" + b"0" * 16, "invalid init response"),
        (b"md5 99 ke1234 b254f324b85c640c", b"init-hex:9bc29b075f3322d3:md5 1 x:" + b"0" * 15, "invalid init response"),
    ],
)
def test_an_answer_of_otp(stored: bytes, answer: bytes, reason: str) -> None:
    """Each is an error: such things are not typed by mistake."""
    talked = talk(MECHS["OTP"], b"\0alice", saying(answer), Passdb(stored={"OTP": stored}))
    assert talked.verdict == Refused(reason, level="error")


@pytest.mark.parametrize(
    "answer", [b"hex:0011223344556677", b"init-hex:0011223344556677:md5 499 new1:0011223344556677"]
)
def test_a_one_time_password_that_is_wrong(answer: bytes) -> None:
    """Nothing is stored."""
    stored = {"OTP": b"md5 99 ke1234 b254f324b85c640c"}
    talked = talk(MECHS["OTP"], b"\0alice", saying(answer), Passdb(stored=stored))
    assert talked.verdict is PassdbResult.PASSWORD_MISMATCH


@pytest.mark.parametrize(
    ("mech", "message", "reason"),
    [
        ("OAUTHBEARER", b"", "Invalid continued data"),
        ("OAUTHBEARER", b"f,a=alice,\1auth=Bearer x\1\1", "Client requested non-standard mechanism"),
        ("OAUTHBEARER", b"p=x,a=alice,\1auth=Bearer x\1\1", "Client requested and used channel-binding"),
        ("OAUTHBEARER", b"n,b=alice,\1auth=Bearer x\1\1", "Invalid gs2-header in request"),
        ("OAUTHBEARER", b"n,a=al=ice,\1auth=Bearer x\1\1", "Invalid username escaping"),
        ("OAUTHBEARER", b"n,a=alice,\1auth=Basic x\1\1", "Invalid continued data"),
        ("OAUTHBEARER", b"n,a=alice,\1auth=Bearer \1\1", "Invalid continued data"),
        ("OAUTHBEARER", b"n,a=alice,\1auth=Bearer x\ny\1\1", "Invalid continued data"),
        ("OAUTHBEARER", b"n,a=alice,\1\1", "Missing token"),
        ("OAUTHBEARER", b"n,,\1auth=Bearer x\1\1", "Missing username"),
        ("XOAUTH2", b"user=alice\1\1", "Missing token"),
        ("XOAUTH2", b"auth=bearer x\1\1", "Missing username"),
        ("CRAM-MD5", b"", "missing digest"),
        ("PLAIN", b"alice", "invalid input"),
    ],
)
def test_a_message_of_the_others(mech: str, message: bytes, reason: str) -> None:
    """In the words of 2.4 where the two releases have their own."""
    initial = None if mech == "CRAM-MD5" else message
    assert talk(MECHS[mech], initial, saying(message), Passdb(b"x")).verdict == Refused(reason)
