"""Tokens, and what a real Dovecot makes of them with its own keys: the same verdict, and the same fields."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authlua.conformance.raw import RawConnection
from tests.differential.servers import DOVECOTS, Authlua, Server
from tests.reference.dovecot import why_not

SECRET = b"a secret of at least 64 bytes, as HS512 would have it of everybody..."
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
NOW = int(time.time())

GOOD = {"sub": "1", "exp": NOW + 3600, "email": "alice", "active": True}


def public(key: Any) -> str:
    """*key*'s public half in PEM."""
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


KEYS = {
    **{f"default/HS{size}/default": base64.b64encode(SECRET).decode() for size in (256, 384, 512)},
    "default/HS256/other": base64.b64encode(b"another secret of no less than 32 bytes").decode(),
    "default/HS256/a%2fb%25": base64.b64encode(SECRET).decode(),
    "default/HS256/broken": "!!!",
    "app/HS256/default": base64.b64encode(SECRET).decode(),
    "default/RS256/default": public(RSA),
    "default/RS512/default": public(RSA),
    "default/PS256/default": public(RSA),
    "default/ES256/default": public(P256),
    "default/ES384/default": public(P384),
    "default/ES256/broken": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
}


def token(*, key: Any = SECRET, alg: str = "HS256", kid: str | None = None, without: str = "", **claims: Any) -> str:
    """A signed token: *GOOD* with other *claims*."""
    body = {name: value for name, value in {**GOOD, **claims}.items() if name != without}
    headers = {} if kid is None else {"kid": kid}
    return jwt.api_jws.PyJWS().encode(json.dumps(body).encode(), key, alg, {"typ": "JWT", **headers})


def raw(header: object, body: object, signature: bytes = b"") -> str:
    """A token of any parts, hardly a good one."""
    parts = [json.dumps(header).encode(), json.dumps(body).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


HS256 = {"typ": "JWT", "alg": "HS256"}

TOKENS: dict[str, str] = {
    "good": token(),
    "no typ": jwt.encode(GOOD, SECRET, "HS256", {"typ": None}),
    "hs384": token(alg="HS384"),
    "hs512": token(alg="HS512"),
    "rs256": token(key=RSA, alg="RS256"),
    "rs512": token(key=RSA, alg="RS512"),
    "ps256": token(key=RSA, alg="PS256"),
    "es256": token(key=P256, alg="ES256"),
    "es384": token(key=P384, alg="ES384"),
    "somebody else's RSA": token(key=OTHER_RSA, alg="RS256"),
    "no key for it": token(key=RSA, alg="RS384"),
    "another kid": token(kid="other", key=b"another secret of no less than 32 bytes"),
    "the key of another kid": token(kid="other"),
    "no such kid": token(kid="nowhere"),
    "a kid with a slash": token(kid="a/b%"),
    "a kid that climbs": token(kid="../HS256/default"),
    "a kid that stays": token(kid="."),
    "an empty kid": token(kid=""),
    "a broken secret": token(kid="broken"),
    "a broken key": token(key=P256, alg="ES256", kid="broken"),
    "azp": token(azp="app"),
    "another azp": token(azp="nobody"),
    "an azp that climbs": token(azp="../default"),
    "no sub": token(without="sub"),
    "no exp": token(without="exp"),
    "no email": token(without="email"),
    "not active": token(active=False),
    "active is a word": token(active="true"),
    "active unknown": token(without="active"),
    "another user": token(email="mallory"),
    "the user in capitals": token(email="ALICE"),
    "expired": token(exp=NOW - 3600),
    "in time": token(exp=NOW + 3000, iat=NOW - 10, nbf=NOW - 100),
    "not yet": token(nbf=NOW + 3600),
    "issued later": token(iat=NOW + 3600),
    "nbf of 0": token(nbf=0, iat=0),
    "a negative nbf": token(nbf=-1),
    "exp as text": token(exp=str(NOW + 3600)),
    "exp as date": token(exp="2099-01-01T00:00:00Z"),
    "exp as date long ago": token(exp="1999-01-01T00:00:00+02:00"),
    "exp as date without zone": token(exp="2099-01-01T00:00:00"),
    "exp as word": token(exp="soon"),
    "exp as fraction": token(exp=NOW + 3600.5),
    "exp as list": token(exp=[NOW + 3600]),
    "exp in an object": token(exp={"at": NOW + 3600}),
    "exp null": token(exp=None),
    "sub as number": token(sub=12),
    "sub as list": token(sub=["1"]),
    "none": raw({"typ": "JWT", "alg": "none"}, GOOD),
    "no signature": raw(HS256, GOOD),
    "HS256 signed with the public key": raw(HS256, GOOD, b"x" * 32),
    "no alg": raw({"typ": "JWT"}, GOOD, b"x"),
    "two parts": token().rpartition(".")[0],
    "four parts": token() + ".x",
    "no token": "hello",
    "dots": "..",
    "a list": raw(HS256, [1]),
    "a changed body": ".".join([token().split(".")[0], token(email="alice", x=1).split(".")[1], token().split(".")[2]]),
    "a list of words": token(n=["a", "b\tc"], access=[["x"], {"y": 1}, "z"]),
    "nested": token(realm={"access": "inner", "deep": {"level": 3}}),
    "an email inside": token(without="email", user={"email": "alice"}),
    "values": token(n=12, f=1.5, t=True),
}

ISSUED: dict[str, str] = {
    "good": token(iss="us", aud="client", scope="mail imap"),
    "several audiences": token(iss="them", aud=["x", "client"], scope="imap,mail"),
    "scope in capitals": token(iss="us", aud="client", scope="MAIL IMAP"),
    "one scope": token(iss="us", aud="client", scope="mail"),
    "more scopes": token(iss="us", aud="client", scope="mail imap pop3"),
    "no scope": token(iss="us", aud="client"),
    "no audience": token(iss="us", scope="mail imap"),
    "another audience": token(iss="us", aud="y", scope="mail imap"),
    "an audience of objects": token(iss="us", aud={"a": "client"}, scope="mail imap"),
    "no issuer": token(aud="client", scope="mail imap"),
    "another issuer": token(iss="foe", aud="client", scope="mail imap"),
}

SITES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "keys": (TOKENS, {}),
    "issued": (
        ISSUED,
        {"issuers": "us them", "client_id": "client", "client_secret": "x", "scope": "mail imap"},
    ),
}

CRASHES = {"2.3": (), "2.4": ("a list",)}
"""Tokens that end a real Dovecot's auth process; a claim of null does so, too, in 2.3.19.1."""

BETTER = {
    # one it calls a bad signature, the other it wants to have a typ, as releases before 2.3.21 do
    "2.3": dict.fromkeys(("es384", "no typ"), "OK\tuser=alice\taccess\tn\tx=//"),
    # the refusal comes from a passdb here, and is told as those of passdbs are
    "2.4": {
        **dict.fromkeys(("several audiences", "scope in capitals"), "FAIL\tuser=alice\tcode=user_disabled"),
        # as from 2.4.2 on
        **dict.fromkeys(("no email", "an email inside"), "FAIL\tuser=alice\tcode=temp_fail"),
    },
}
"""What authlua answers otherwise, on purpose."""

FIELDS = {"2.3": {"access": "%{oauth2:access}", "n": "%{oauth2:n}", "x": "%{oauth2:f}/%{oauth2:t}/%{oauth2:level}"}}


def dovecot_2_3(settings: dict[str, str]) -> tuple[str, str, dict[str, str]]:
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    attrs = " ".join(f"{name}={value}" for name, value in FIELDS["2.3"].items())
    text = (
        "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={directory}/keys/\n"
        f"username_attribute = email\npass_attrs = {attrs}\n" + lines
    )
    return "passdb {\n  driver = oauth2\n  args = {directory}/oauth2.conf\n}\n", text, {}


def dovecot_2_4(settings: dict[str, str]) -> tuple[str, str, dict[str, str]]:
    lines = "".join(f"  {name} = {value}\n" for name, value in settings.items())
    block = (
        "oauth2 {\n  introspection_mode = local\n  active_attribute = active\n  active_value = true\n"
        "  oauth2_local_validation {\n    dict fs {\n      fs posix {\n"
        "        prefix = {directory}/keys/\n      }\n    }\n  }\n"
        + lines
        + "}\npassdb static {\n  fields {\n    nopassword = yes\n  }\n}\n"
    )
    return block, "", {}


def authlua(settings: dict[str, str], series: str) -> str:
    lists = {"issuers", "scope"}
    lines = "".join(
        f"{name} = {json.dumps(value.split() if name in lists else value)}\n" for name, value in settings.items()
    )
    text = (
        "[auth]\nmechanisms = ['xoauth2']\nfailure_delay = 0\ninternal_failure_delay = 0\npenalty = false\n"
        '[[passdb]]\ndriver = "oauth2"\nintrospection_mode = "local"\nuse_grant_password = false\n'
        'local_validation_key_dict = "fs:posix:prefix=keys/"\nactive_attribute = "active"\nactive_value = "true"\n'
        + lines
    )
    if series == "2.3":
        text += "fields = { " + ", ".join(f"{name} = {value!r}" for name, value in FIELDS["2.3"].items()) + " }\n"
    return text + "[[userdb]]\ndriver = 'static'\n"


def put_keys(directory: Path) -> None:
    for name, text in KEYS.items():
        path = directory / "keys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def verdicts(server: Server, tokens: dict[str, str]) -> dict[str, str]:
    """The last word on each token, without the token that an OK repeats."""
    connection = RawConnection.connect(server.sockets["client"])
    connection.send(b"VERSION\t1\t2\nCPID\t77\n")
    connection.greeting()
    for id, one in enumerate(tokens.values()):
        response = base64.b64encode(f"user=alice\1auth=Bearer {one}\1\1".encode()).decode()
        connection.send(f"AUTH\t{id + 1}\tXOAUTH2\tservice=imap\tresp={response}\n".encode())
    said: dict[str, str] = {}
    while len(said) < len(tokens):
        line = connection.receive()
        assert line is not None, f"the server hung up, said was {said}\n{server.log()}"
        word, id_, *rest = line.decode().split("\t")
        if word == "CONT":
            connection.send(f"CONT\t{id_}\tAQ==\n".encode())
        else:
            fields = [field for field in rest if not field.startswith("token=")]
            said[list(tokens)[int(id_) - 1]] = "\t".join([word, *fields])
    connection.close()
    return said


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
@pytest.mark.parametrize("site", SITES)
def test_the_verdicts_on_tokens_are_the_same(series: str, site: str) -> None:
    """Local validation, with keys in files as Dovecot wants them."""
    if reason := why_not(series):
        pytest.skip(reason)
    tokens, settings = SITES[site]
    tokens = {name: one for name, one in tokens.items() if name not in CRASHES[series]}
    databases, conf, more = {"2.3": dovecot_2_3, "2.4": dovecot_2_4}[series](settings)
    options: dict[str, str | int] = {
        "auth_mechanisms": "xoauth2",
        "auth_failure_delay": 0,
        "auth_debug": "yes",
        **more,
        **({} if series == "2.3" else {"auth_internal_failure_delay": 0}),
    }

    with DOVECOTS[series](conf, databases=databases, **options) as dovecot:
        put_keys(dovecot.directory)
        (dovecot.directory / "oauth2.conf").write_text(conf.replace("{directory}", str(dovecot.directory)))
        expected = verdicts(dovecot, tokens)
        log = dovecot.log()
    with Authlua(authlua(settings, series), dialect=series, files={}) as server:
        put_keys(server.directory)
        got = verdicts(server, tokens)
        log += server.log()
    assert got == expected | {name: said for name, said in BETTER[series].items() if name in tokens}, log
