"""The driver ``oauth2``: keys and rules of its own. What it has from Dovecot, tests/differential asks Dovecot."""

import base64
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from authlua.auth import new_request
from authlua.config import load
from authlua.databases import KeyFiles, KeySet, OAuth2Options, OAuth2Passdb
from authlua.databases.tokens import Rules, TokenJudge, TokenRefused
from authlua.dialect import Dialect
from authlua.errors import ConfigError, ScriptError
from authlua.protocol import Ok
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.services.http_messages import Answer
from authlua.wishes import Compute, Service
from tests.databases.test_databases import Site

SECRET = b"a secret of no less than thirty-two bytes"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())


def token(key: Any = SECRET, alg: str = "HS256", **more: Any) -> str:
    body = {"sub": "1", "exp": int(time.time()) + 60, "email": "alice", **more}
    kid = body.pop("kid", None)
    return jwt.encode(body, key, alg, {} if kid is None else {"kid": kid})


def jwk(key: Any, **more: str) -> dict[str, Any]:
    """*key*, or its public half, as a JSON Web Key."""
    if isinstance(key, bytes):
        return {"kty": "oct", "k": base64.urlsafe_b64encode(key).decode().rstrip("="), **more}
    kind = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
    return {**kind.to_jwk(key.public_key(), as_dict=True), **more}


Answers = Mapping[str, tuple[int, bytes]]

NOTHING: Answers = MappingProxyType({})


def run(core: Any, answers: Answers = NOTHING) -> Any:
    """What *core* comes to; files are read, and web servers say what *answers* has for their paths."""
    answer: Any = None
    failure: Exception | None = None
    try:
        while True:
            wish = core.send(answer) if failure is None else core.throw(failure)
            answer, failure = None, None
            if isinstance(wish, Compute):
                try:
                    answer = wish.function(*wish.args)
                except Exception as error:
                    failure = error
            else:
                assert isinstance(wish, Service)
                url = wish.arguments[2].decode()
                status, body = next(said for path, said in answers.items() if path in url)
                answer = Answer(status, b"Reason", b"", body, "")
    except StopIteration as done:
        return done.value


def verify(passdb: OAuth2Passdb, given: str, mech: str = "XOAUTH2", answers: Answers = NOTHING) -> PassdbReply:
    request = new_request([("service", "imap")], id=1, mech=mech)
    request.user = "alice"
    reply: PassdbReply = run(passdb.verify_plain(request, Secret(given.encode())), answers)
    return reply


class TestKeySet:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> Path:
        return tmp_path / "keys.json"

    def judge(self, path: Path, *keys: dict[str, Any]) -> TokenJudge:
        path.write_text(json.dumps({"keys": keys}))
        return TokenJudge(KeySet(str(path)), Rules(), Dialect.V2_4)

    def test_a_token_names_its_key(self, keys: Path) -> None:
        """By kid; the algorithm must be one for such a key, and the one the key is for, if it says so."""
        judge = self.judge(keys, jwk(RSA, kid="a"), jwk(P256, kid="b", alg="ES256"), jwk(SECRET, kid="c", use="sig"))
        for one in (token(RSA, "RS256", kid="a"), token(RSA, "PS512", kid="a"), token(P256, "ES256", kid="b")):
            assert run(judge.claims(one))["email"] == "alice"
        assert run(judge.claims(token(kid="c")))["sub"] == "1"
        for kid in ("b", "x"):
            with pytest.raises(TokenRefused, match=f"RS256 key '{kid}' not found"):
                run(judge.claims(token(RSA, "RS256", kid=kid)))

    def test_a_token_without_kid_may_use_the_only_key(self, keys: Path) -> None:
        """For its algorithm; among several nobody guesses."""
        assert run(self.judge(keys, jwk(RSA, kid="a"), jwk(P256, kid="b")).claims(token(RSA, "RS256")))
        with pytest.raises(TokenRefused, match="not found"):
            run(self.judge(keys, jwk(RSA, kid="a"), jwk(RSA, kid="b")).claims(token(RSA, "RS256")))

    def test_a_public_key_is_no_secret(self, keys: Path) -> None:
        """Whoever knows it, and that is everybody, could sign with it."""
        judge = self.judge(keys, jwk(RSA, kid="a"))
        modulus = base64.urlsafe_b64decode(jwk(RSA)["n"] + "==")
        with pytest.raises(TokenRefused, match="HS256 key 'a' not found"):
            run(judge.claims(token(modulus, kid="a")))

    def test_a_key_for_encryption_signs_nothing(self, keys: Path) -> None:
        """As its use says."""
        with pytest.raises(TokenRefused, match="not found"):
            run(self.judge(keys, jwk(RSA, kid="a", use="enc")).claims(token(RSA, "RS256", kid="a")))

    def test_the_file_is_read_again_when_it_has_changed(self, keys: Path) -> None:
        """Issuers change their keys."""
        judge = self.judge(keys, jwk(SECRET, kid="a"))
        assert run(judge.claims(token(kid="a")))
        self.judge(keys, jwk(b"another secret of more than thirty-two bytes", kid="a"))
        with pytest.raises(TokenRefused, match="Bad signature"):
            run(judge.claims(token(kid="a")))

    @pytest.mark.parametrize("text", ["", "[]", '{"keys": 1}', "{}", "\0"])
    def test_a_file_that_is_no_key_set_is_a_failure(self, keys: Path, text: str) -> None:
        """And none of the token's."""
        judge = self.judge(keys)
        keys.write_text(text)
        with pytest.raises(ScriptError):
            run(judge.claims(token()))
        keys.unlink()
        with pytest.raises(ScriptError, match="no such file"):
            run(judge.claims(token()))


class TestKeyFiles:
    @pytest.fixture
    def judge(self, tmp_path: Path) -> TokenJudge:
        (tmp_path / "default/HS256").mkdir(parents=True)
        (tmp_path / "default/HS256/default").write_bytes(base64.b64encode(SECRET) + b"\n")
        (tmp_path / "default/RS256").mkdir()
        pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "default/RS256/default").write_bytes(pem)
        (tmp_path / "default/HS512").mkdir()
        (tmp_path / "default/HS512/default").write_bytes(pem)
        return TokenJudge(KeyFiles(f"{tmp_path}/"), Rules(), Dialect.V2_3)

    def test_each_key_is_a_file(self, judge: TokenJudge) -> None:
        """``azp/alg/kid``, each of them ``default`` unless the token says it."""
        assert run(judge.claims(token()))["email"] == "alice"
        assert run(judge.claims(token(RSA, "RS256")))["email"] == "alice"

    @pytest.mark.parametrize(
        "kid", ["no such", "x" * 5000, "a\0b", "default/x", "..", "%", "\udcff".encode("utf-8", "replace").decode()]
    )
    def test_a_token_cannot_name_what_is_no_key(self, judge: TokenJudge, kid: str) -> None:
        """Neither climb out of the directory nor make a login fail for now."""
        with pytest.raises(TokenRefused):
            run(judge.claims(token(kid=kid)))
        with pytest.raises(TokenRefused):
            run(judge.claims(token(azp=kid)))

    def test_a_public_key_in_the_place_of_a_secret_signs_nothing(self, judge: TokenJudge) -> None:
        """PEM is hardly base64."""
        with pytest.raises(TokenRefused, match="Invalid base64 encoded key"):
            run(judge.claims(token(b"x" * 64, "HS512")))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_an_unreadable_key_is_a_failure(self, judge: TokenJudge, tmp_path: Path) -> None:
        """Ours, not the token's."""
        (tmp_path / "default/HS256/default").chmod(0)
        with pytest.raises(ScriptError):
            run(judge.claims(token()))

    def test_a_directory_in_the_place_of_a_key_is_a_failure(self, judge: TokenJudge, tmp_path: Path) -> None:
        """Somebody's mistake, but not the token's."""
        (tmp_path / "default/HS256/dir").mkdir()
        with pytest.raises(ScriptError, match="Is a directory"):
            run(judge.claims(token(kid="dir")))

    @given(
        st.text(st.characters(codec="ascii"), max_size=40) | st.lists(st.binary(max_size=20), min_size=3, max_size=3)
    )
    def test_whatever_comes_is_a_token_or_refused(self, parts: str | list[bytes]) -> None:
        """Nothing else."""
        text = parts
        if not isinstance(text, str):
            text = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in text)
        with pytest.raises(TokenRefused):
            run(TokenJudge(KeyFiles("/nowhere/"), Rules(), Dialect.V2_3).claims(text))

    def test_a_deep_token_is_refused(self, judge: TokenJudge) -> None:
        """JSON can be nested deeper than anybody can read."""
        deep = base64.urlsafe_b64encode(b'{"a":' * 100_000).decode().rstrip("=")
        with pytest.raises(TokenRefused):
            run(judge.claims(f"{deep}.{deep}.x"))


GRANT: Answers = {
    "/grant": (200, b'{"access_token": "t", "email": "alice"}'),
    "/look": (200, b'{"email": "alice", "active": true}'),
}


class TestWho:
    def test_in_2_4_a_password_is_for_a_grant_and_a_token_is_a_token(self) -> None:
        """With one passdb for both."""
        options = OAuth2Options(grant_url="http://x/grant", introspection_url="http://x/look", use_grant_password=True)
        passdb = OAuth2Passdb(options, None, dialect=Dialect.V2_4, id=1)
        assert verify(passdb, "secret", "PLAIN", GRANT).fields == [("token", "t")]
        assert verify(passdb, "token", "XOAUTH2", GRANT).fields == [("token", "token")]

    @pytest.mark.parametrize("mech", ["PLAIN", "XOAUTH2"])
    def test_in_2_3_a_setting_says_what_it_is(self, mech: str) -> None:
        """Whatever the mechanism is called."""
        for grants, found in ((True, "t"), (False, "secret")):
            options = OAuth2Options(
                grant_url="http://x/grant",
                introspection_url="http://x/look",
                use_grant_password=grants,
                username_validation_format="%Lu",
            )
            passdb = OAuth2Passdb(options, None, dialect=Dialect.V2_3, id=1)
            assert verify(passdb, "secret", mech, GRANT).fields == [("token", found)]

    def test_no_token_asks_nobody(self) -> None:
        """An empty password is none."""
        options = OAuth2Options(introspection_url="http://x/look")
        reply = verify(OAuth2Passdb(options, None, dialect=Dialect.V2_4, id=1), "", "PLAIN")
        assert reply.result is PassdbResult.PASSWORD_MISMATCH

    def test_a_granted_token_can_be_judged_here(self, tmp_path: Path) -> None:
        """As Dovecot does when the grant does not say whose it is."""
        (tmp_path / "set").write_text(json.dumps({"keys": [jwk(SECRET)]}))
        options = OAuth2Options(grant_url="http://x/grant", introspection_mode="local", use_grant_password=True)
        passdb = OAuth2Passdb(options, KeySet(str(tmp_path / "set")), dialect=Dialect.V2_4, id=1)
        granted = json.dumps({"access_token": token()}).encode()
        assert verify(passdb, "secret", "PLAIN", {"/grant": (200, granted)}).result is PassdbResult.OK
        refused = json.dumps({"access_token": token(b"a foreign secret of more than 32 bytes")}).encode()
        reply = verify(passdb, "secret", "PLAIN", {"/grant": (200, refused)})
        assert reply.result is PassdbResult.PASSWORD_MISMATCH
        assert reply.text.startswith("oauth2 failed: Local validation failed: Bad signature")

    @pytest.mark.parametrize("dialect", list(Dialect))
    def test_claims_become_fields(self, dialect: Dialect) -> None:
        """Of the passdb; those for the userdb, too."""
        options = OAuth2Options(
            introspection_url="http://x/look",
            fields=[("userdb_home", "/srv/%{oauth2:sub}"), ("quota", "%{oauth2:n}")],
            username_validation_format="%u" if dialect is Dialect.V2_3 else "%{user}",
        )
        passdb = OAuth2Passdb(options, None, dialect=dialect, id=1)
        said = b'{"email": "alice", "sub": "77", "n": 5}'
        fields = [("userdb_home", "/srv/77"), ("quota", "5"), ("token", "tok")]
        assert verify(passdb, "tok", answers={"/look": (200, said)}).fields == fields

    def test_a_missing_claim_is_empty_or_its_default_in_2_3(self) -> None:
        """And a failure in 2.4."""
        said = {"/look": (200, b'{"email": "alice"}')}
        fields = [("a", "%{oauth2:no}"), ("b", "%{oauth2:no:other}"), ("email", "<%$>")]
        options = OAuth2Options(introspection_url="http://x/look", fields=fields, username_validation_format="%u")
        reply = verify(OAuth2Passdb(options, None, dialect=Dialect.V2_3, id=1), "t", answers=said)
        assert reply.fields == [("a", ""), ("b", "other"), ("email", "<alice>"), ("token", "t")]
        options = OAuth2Options(introspection_url="http://x/look", fields=fields[:1])
        reply = verify(OAuth2Passdb(options, None, dialect=Dialect.V2_4, id=1), "t", answers=said)
        assert reply.result is PassdbResult.INTERNAL_FAILURE
        assert "Field 'no' not found" in reply.text

    def test_a_service_with_a_line_feed_makes_no_header(self) -> None:
        """Clients choose their service's name."""
        options = OAuth2Options(introspection_url="http://x/look", send_auth_headers=True)
        passdb = OAuth2Passdb(options, None, dialect=Dialect.V2_4, id=1)
        request = new_request([("service", "imap\nX-Evil\nyes"), ("rip", "::1"), ("rport", "5")], id=1, mech="XOAUTH2")
        wish = passdb.verify_plain(request, Secret(b"tok")).send(None)
        assert wish.arguments[5] == b"X-Dovecot-Auth-Remote\n[::1]:5\nAuthorization\nBearer tok"

    @pytest.mark.parametrize("given", ["tok\nX-Evil\nyes", "tok\r\nX-Evil: yes", "tok\0"])
    @pytest.mark.parametrize("where", [{"introspection_url": "http://x/look"}, {"tokeninfo_url": "http://x/info?t="}])
    def test_a_token_with_a_line_feed_makes_no_header(self, given: str, where: dict[str, str]) -> None:
        """Clients choose their token, and no server is asked about one that fits into no header."""
        passdb = OAuth2Passdb(OAuth2Options(**where), None, dialect=Dialect.V2_4, id=1)  # type: ignore[arg-type]
        reply = verify(passdb, given, "XOAUTH2")
        assert reply.result is PassdbResult.PASSWORD_MISMATCH
        assert reply.text.endswith(" failed: Invalid token")


BASE = "[[passdb]]\ndriver = 'oauth2'\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "needs a tokeninfo_url, an introspection_url, a grant_url or a local_validation_key_dict"),
        ("introspection_url = 'ftp://x'", "introspection_url: expected a web address"),
        ("introspection_mode = 'local'", "local_validation_key_dict need each other"),
        ("local_validation_key_dict = 'jwks:k'", "local_validation_key_dict need each other"),
        ("local_validation_key_dict = 'proxy::keys'", 'expected "fs:posix:prefix=DIRECTORY/" or "jwks:FILE"'),
        ("introspection_url = 'http://x/'\nclient_id = 'x'", "client_id and client_secret need each other"),
        ("grant_url = 'http://x/'", "grant_url: needs a client_id"),
        ("introspection_url = 'http://x/'\nactive_attribute = ''", "active_value: needs an active_attribute"),
        ("introspection_url = 'http://x/'\nhost = 'x'", "host: not for driver oauth2, only for imap"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """With the key that is meant."""
    (tmp_path / "authlua.toml").write_text(f"{BASE}{text}\n[[userdb]]\ndriver = 'static'\n")
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "authlua.toml")
    assert problem in str(error.value)


def test_a_login_with_a_token(tmp_path: Path) -> None:
    """Through a whole configuration; what a relative path means, too."""
    (tmp_path / "set").write_text(json.dumps({"keys": [jwk(SECRET)]}))
    text = "introspection_mode = 'local'\nlocal_validation_key_dict = 'jwks:set'\n"
    text += "fields = { userdb_uid = '%{oauth2:uid}' }\n"
    site = Site(tmp_path, BASE + text + "[[userdb]]\ndriver = 'prefetch'\n")
    good = token(uid=77)
    assert site.login("alice", good) == Ok(1, "alice", [("token", good)], keep=True)
    assert site.login("alice", token(email="bob")).fields == [("user", "alice")]
    assert any("Username 'alice' did not match 'bob'" in text for _, text in site.events)


def test_other_tokens_do_not_hide_a_user_in_the_cache(tmp_path: Path) -> None:
    """A token of somebody else's says that alice is unknown, and that is true of this token alone."""
    (tmp_path / "set").write_text(json.dumps({"keys": [jwk(SECRET)]}))
    text = "introspection_mode = 'local'\nlocal_validation_key_dict = 'jwks:set'\n"
    site = Site(tmp_path, "cache_size = '1M'\n" + BASE + text + "[[userdb]]\ndriver = 'prefetch'\n")
    good, foreign = token(), token(email="bob")
    assert [site.login_as("alice", one)[0].cached for one in (foreign, foreign, good, good)] == [False, True] * 2
    assert site.login("alice", good) == site.login("alice", good)
