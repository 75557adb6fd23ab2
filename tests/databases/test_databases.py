"""The drivers beside Lua, each alone and all through the core that a configuration makes of them."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from authlua import passwords
from authlua.auth import new_request
from authlua.config import load
from authlua.databases import PamPassdb
from authlua.databases.passwd_file import parse
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.protocol import Fail, Failed, NotFound, Ok, UserFound
from authlua.request import AuthRequest
from authlua.results import PassdbResult
from authlua.secret import Secret
from authlua.server import Core, open_core
from authlua.wishes import Compute, Wish

FILE = """\
# a comment

timo:{PLAIN}pass:1000:1001:Timo:/home/timo:/bin/sh:nologin=y userdb_mail=maildir:~/Maildir reason=Not_%u
plain:pass
hash:{SHA256}HASH:::::/bin/false:a=b
nopw:
locked
:nobody:
crlf:{PLAIN}pass:1:2::/h::\r
"""


def run(core: Any) -> Any:
    """What *core* comes to, with all that blocks done on the spot."""
    answer: Any = None
    failure: Exception | None = None
    try:
        while True:
            wish: Wish = core.send(answer) if failure is None else core.throw(failure)
            assert isinstance(wish, Compute)
            answer, failure = None, None
            try:
                answer = wish.function(*wish.args)
            except Exception as error:
                failure = error
    except StopIteration as done:
        return done.value


class Site:
    """A configuration, its core, and its log."""

    def __init__(self, directory: Path, text: str, *, dialect: str = "2.3") -> None:
        (directory / "authlua.toml").write_text(
            f'[server]\nbase_dir = "run"\ndialect = "{dialect}"\n[auth]\nverbose = true\ninternal_failure_delay = 0\n'
            + text
        )
        self.events: list[tuple[str, str]] = []

        def keep(logger: Any, method: str, event: Any) -> Any:
            self.events.append((method, event["event"]))
            raise structlog.DropEvent

        log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[keep])
        self.core: Core = open_core(load(directory / "authlua.toml"), log)

    def login(self, user: str, password: str = "pass") -> Ok | Fail:
        return self.login_as(user, password)[1]

    def login_as(self, user: str, password: str = "pass") -> tuple[AuthRequest, Ok | Fail]:
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        reply: Ok | Fail = run(
            self.core.auth.authenticate(request, Secret(f"\0{user}\0{password}".encode()), login=True)
        )
        return request, reply

    def fetch(self, user: str) -> Any:
        """The userdb's part of a login."""
        request, reply = self.login_as(user)
        assert isinstance(reply, Ok)
        return run(self.core.auth.fetch_login(request, 2, wants_token=False))

    def user(self, name: str) -> Any:
        return run(self.core.auth.lookup_user(new_request([("service", "lmtp")], id=1), name))

    def users(self) -> list[str]:
        listing, names = self.core.auth.list_users(), []
        while piece := run(listing.piece()):
            names += piece
        listing.close()
        return names


PASSWD_FILE = "[[passdb]]\ndriver = 'passwd-file'\nfile = 'users'\nscheme = 'PLAIN'\n"
USER_FILE = "[[userdb]]\ndriver = 'passwd-file'\nfile = 'users'\n"


class TestPasswdFile:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        hashed = passwords.encode(b"pass", "SHA256").partition("}")[2]
        (tmp_path / "users").write_text(FILE.replace("HASH", hashed))
        return Site(tmp_path, PASSWD_FILE + USER_FILE)

    def test_passwords_and_extra_fields(self, site: Site) -> None:
        """Values are templates; a line may end early, or with CR LF."""
        assert site.login("timo") == Ok(1, "timo", [("nologin", None), ("reason", "Not_timo")], keep=False)
        assert site.login("plain") == Ok(1, "plain", [], keep=True)
        assert site.login("hash") == Ok(1, "hash", [("a", "b")], keep=True)
        assert site.login("hash", "wrong") == Fail(1, [("user", "hash")], delay=True)
        assert isinstance(site.login("crlf"), Ok)

    @pytest.mark.parametrize("user", ["nopw", "locked"])
    @pytest.mark.parametrize("password", ["", "pass"])
    def test_a_line_without_a_password_lets_nobody_in(self, site: Site, user: str, password: str) -> None:
        """Not even who gives none."""
        assert isinstance(site.login(user, password), Fail)

    @pytest.mark.parametrize("user", ["nobody", "# a comment", ""])
    def test_others_are_unknown(self, site: Site, user: str) -> None:
        """A comment is no user."""
        assert isinstance(site.login(user), Fail)

    def test_the_userdb_part(self, site: Site) -> None:
        """uid, gid, home, and the extra fields that say so; what is empty is left out."""
        fields = [("uid", "1000"), ("gid", "1001"), ("home", "/home/timo"), ("mail", "maildir:~/Maildir")]
        assert site.user("timo") == UserFound(1, "timo", fields)

    def test_a_line_that_ends_early_is_for_passdbs_only(self, tmp_path: Path) -> None:
        """As Dovecot has it: who has no field for a gid, empty or not, is no user of a userdb, but is listed."""
        (tmp_path / "users").write_text("a:x\nb:x:1\nd:x:\ne:x::\nc:x:1:1\n")
        site = Site(tmp_path, PASSWD_FILE + USER_FILE)
        assert [site.user(name) for name in "abd"] == [NotFound(1)] * 3
        assert [site.user(name).fields for name in "ec"] == [[], [("uid", "1"), ("gid", "1")]]
        assert site.users() == ["a", "b", "d", "e", "c"]

    @pytest.mark.parametrize(
        "keys", ["file = 'users%{nosuch}'", "file = 'users'\nusername_format = '%{nosuch}'", "file = 'users'"]
    )
    def test_a_variable_that_there_is_not_is_our_failure(self, tmp_path: Path, keys: str) -> None:
        """In the path, in the name, and in the file itself."""
        (tmp_path / "users").write_text("t:pass:1:1::::a=%{nosuch} userdb_b=%{nosuch}\n")
        passdb = f"[[passdb]]\ndriver = 'passwd-file'\nscheme = 'PLAIN'\n{keys}\n"
        site = Site(tmp_path, f"{passdb}[[userdb]]\ndriver = 'passwd-file'\n{keys}\n")
        assert ("code", "temp_fail") in site.login("t").fields
        assert isinstance(site.user("t"), Failed)

    def test_of_two_lines_the_first_counts(self, tmp_path: Path) -> None:
        """Dovecot's does, and complains."""
        (tmp_path / "users").write_text("t:one:1:1\nt:two:2:2\n")
        site = Site(tmp_path, PASSWD_FILE + USER_FILE)
        assert (isinstance(site.login("t", "one"), Ok), isinstance(site.login("t", "two"), Fail)) == (True, True)
        assert site.user("t") == UserFound(1, "t", [("uid", "1"), ("gid", "1")])

    @pytest.mark.parametrize("line", ["t:x:0:5", "t:x:5:0", "t:x:nosuchuser:5"])
    def test_nobody_is_made_root(self, tmp_path: Path, line: str) -> None:
        """A mistake in the file; the mail waits until it is found."""
        (tmp_path / "users").write_text(line)
        site = Site(tmp_path, PASSWD_FILE + USER_FILE)
        assert isinstance(site.user("t"), Failed)
        assert [level for level, _ in site.events] == ["error"]
        assert site.user("nobody") == NotFound(1)

    def test_its_users_are_listed(self, site: Site) -> None:
        """In the order of the file."""
        assert site.users() == ["timo", "plain", "hash", "nopw", "locked", "crlf"]

    def test_the_file_is_read_again_when_it_has_changed(self, site: Site, tmp_path: Path) -> None:
        """A password that is changed works at once, and the old one no longer does."""
        assert isinstance(site.login("plain"), Ok)
        (tmp_path / "new").write_text("plain:other\n")
        (tmp_path / "new").rename(tmp_path / "users")
        assert isinstance(site.login("plain"), Fail)
        assert isinstance(site.login("plain", "other"), Ok)

    def test_an_unchanged_file_is_not_read_again(self, site: Site) -> None:
        """The second login waits for nothing."""
        site.login("plain")
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        with pytest.raises(StopIteration):
            site.core.auth.authenticate(request, Secret(b"\0plain\0pass"), login=False).send(None)

    def test_a_file_that_is_not_there_is_a_failure_of_ours(self, site: Site, tmp_path: Path) -> None:
        """Nobody is told that they do not exist."""
        (tmp_path / "users").unlink()
        assert ("code", "temp_fail") in site.login("plain").fields
        assert site.user("plain") == Failed(1)
        assert any(level == "error" and "No such file" in text for level, text in site.events)

    def test_a_path_with_variables_is_a_file_for_each_domain(self, tmp_path: Path) -> None:
        """A domain without a file has no users; what is no domain's name leads nowhere."""
        (tmp_path / "x.org").mkdir()
        (tmp_path / "x.org" / "users").write_text("t:{PLAIN}pass:1:2::/home/t\n")
        (tmp_path / "users").write_text("t:{PLAIN}pass\n")
        more = "file = '%d/users'\nusername_format = '%n'\n"
        site = Site(
            tmp_path,
            f"username_chars = ''\n[[passdb]]\ndriver = 'passwd-file'\n{more}"
            f"[[userdb]]\ndriver = 'passwd-file'\n{more}",
        )
        assert isinstance(site.login("t@x.org"), Ok)
        assert site.user("t@x.org") == UserFound(1, "t@x.org", [("uid", "1"), ("gid", "2"), ("home", "/home/t")])
        for elsewhere in ("t@y.org", "t@.", "t@..", "t@./", "t@x.org/../x.org", "t@", "t"):
            assert isinstance(site.login(elsewhere), Fail), elsewhere
        assert site.user("t@y.org") == NotFound(1)

    def test_a_directory_that_changes_by_user_cannot_be_listed(self, tmp_path: Path) -> None:
        """It says so."""
        site = Site(tmp_path, PASSWD_FILE + "[[userdb]]\ndriver = 'passwd-file'\nfile = '%d/users'\n")
        with pytest.raises(Exception, match="cannot list users when its path has variables"):
            site.users()

    def test_the_default_scheme_is_crypt(self, tmp_path: Path) -> None:
        """In a file made by htpasswd or useradd there are no braces; 2.4.0 alone sees it otherwise."""
        (tmp_path / "users").write_text(f"t:{passwords.encode(b'pass', 'SHA256-CRYPT').partition('}')[2]}\n")
        text = "[[passdb]]\ndriver = 'passwd-file'\nfile = 'users'\n[[userdb]]\ndriver = 'passwd'\n"
        assert isinstance(Site(tmp_path, text).login("t"), Ok)
        assert isinstance(Site(tmp_path, text, dialect="2.4").login("t"), Ok)
        assert isinstance(Site(tmp_path, text, dialect="2.4.0").login("t"), Fail)

    @given(st.text())
    def test_any_text_is_a_file(self, text: str) -> None:
        """No line breaks the others."""
        assert parse("t:pass\n" + text + "\n")["t"].password == "pass"


class TestStatic:
    def test_everybody_has_the_same_fields(self, tmp_path: Path) -> None:
        """Templates, in the language of the server."""
        site = Site(
            tmp_path,
            "[[passdb]]\ndriver = 'static'\nfields = { password = 'pass', a = '%{user | upper}' }\n"
            "[[userdb]]\ndriver = 'static'\nallow_all_users = true\nfields = { uid = 5000, home = '/srv/%{user}' }\n",
            dialect="2.4",
        )
        assert site.login("t") == Ok(1, "t", [("a", "T")], keep=True)
        assert isinstance(site.login("t", "x"), Fail)
        assert site.user("t") == UserFound(1, "t", [("uid", "5000"), ("home", "/srv/t")])

    @pytest.mark.parametrize("skip", ["found", "notfound"])
    def test_the_first_userdb_is_asked_whatever_its_skip(self, tmp_path: Path, skip: str) -> None:
        """As Dovecot does; the others are skipped by what became of those before."""
        static = "[[userdb]]\ndriver = 'static'\nallow_all_users = true\nresult_success = 'continue-ok'\n"
        first = f"{static}fields = {{ a = '1' }}\nskip = '{skip}'\n"
        second = f"{static}fields = {{ b = '2' }}\nskip = '{skip}'\n"
        found = Site(tmp_path, "[[passdb]]\ndriver = 'pam'\n" + first + second).user("t")
        assert found.fields == ([("a", "1")] if skip == "found" else [("a", "1"), ("b", "2")])

    @pytest.mark.parametrize("where", ["fields", "default_fields", "override_fields"])
    @pytest.mark.parametrize(("dialect", "template"), [("2.3", "%{nosuch}"), ("2.4", "%{nosuch}")])
    def test_a_variable_that_there_is_not_is_our_failure(
        self, tmp_path: Path, where: str, dialect: str, template: str
    ) -> None:
        """It may be the name of a network, or of a home: better none than a wrong one."""
        fields = f"{where} = {{ nopassword = 'y', home = '{template}' }}\n"
        passdb, userdb = "[[passdb]]\ndriver = 'static'\n", "[[userdb]]\ndriver = 'static'\nallow_all_users = true\n"
        passdb += "" if where == "fields" else "fields = { nopassword = 'y' }\n"
        site = Site(tmp_path, passdb + fields + userdb + fields, dialect=dialect)
        assert site.login("t") == Fail(1, [("user", "t"), ("code", "temp_fail")], delay=dialect == "2.3")
        assert isinstance(site.user("t"), Failed)
        assert {level for level, _ in site.events} == {"error"}

    def test_outside_of_a_login_the_passdbs_say_who_exists(self, tmp_path: Path) -> None:
        """Mail for nobody is not taken. Inside of one, the question is answered already."""
        (tmp_path / "users").write_text("t:pass\n")
        static = "[[userdb]]\ndriver = 'static'\nfields = { home = '/srv/%u' }\n"
        site = Site(tmp_path, PASSWD_FILE + static)
        assert site.user("t") == UserFound(1, "t", [("home", "/srv/t")])
        assert site.user("nobody") == NotFound(1)
        request, _ = site.login_as("t")
        (tmp_path / "users").unlink()
        assert dict(run(site.core.auth.fetch_login(request, 2, wants_token=False)).fields)["home"] == "/srv/t"
        assert site.user("t") == Failed(1)

    def test_what_a_passdb_says_of_the_mail_overrides_defaults(self, tmp_path: Path) -> None:
        """The passdb is asked after they are set, and before the fields of the userdb."""
        passdb = "[[passdb]]\ndriver = 'static'\nfields = { nopassword = 'y', userdb_uid = '5', userdb_home = '/p' }\n"
        userdb = "[[userdb]]\ndriver = 'static'\nfields = { home = '/u' }\ndefault_fields = { uid = '7', gid = '8' }\n"
        fields = dict(Site(tmp_path, passdb + userdb).user("t").fields)
        assert fields == {"uid": "5", "gid": "8", "home": "/u"}

    def test_a_passdb_that_cannot_tell_is_a_failure(self, tmp_path: Path) -> None:
        """And an error with Dovecot's words."""
        site = Site(tmp_path, "[[passdb]]\ndriver = 'pam'\n[[userdb]]\ndriver = 'static'\n")
        assert site.user("t") == Failed(1)
        assert ("error", "passdb doesn't support lookups, can't verify user's existence") in site.events

    def test_it_lists_nobody(self, tmp_path: Path) -> None:
        """It cannot know; others may."""
        static = "[[userdb]]\ndriver = 'static'\n"
        site = Site(tmp_path, PASSWD_FILE + static)
        with pytest.raises(ScriptError, match="Trying to iterate users, but userdbs don't support it"):
            site.users()
        (tmp_path / "users").write_text("alice\nbob\n")
        assert Site(tmp_path, PASSWD_FILE + static + USER_FILE).users() == ["alice", "bob"]


PREFETCHED = (
    "[[passdb]]\ndriver = 'static'\nusername_filter = ['pre']\n"
    "fields = { nopassword = 'y', userdb_home = '/pre' }\n"
    "[[passdb]]\ndriver = 'static'\nfields = { nopassword = 'y' }\n"
)


class TestPrefetch:
    def test_it_has_what_the_passdb_said(self, tmp_path: Path) -> None:
        """Others ask the next userdb."""
        site = Site(
            tmp_path,
            PREFETCHED + "[[userdb]]\ndriver = 'prefetch'\n"
            "[[userdb]]\ndriver = 'static'\nallow_all_users = true\nfields = { home = '/static' }\n",
        )
        assert dict(site.fetch("pre").fields)["home"] == "/pre"
        assert dict(site.fetch("t").fields)["home"] == "/static"
        assert dict(site.user("pre").fields)["home"] == "/static"

    @pytest.mark.parametrize("value", ["x", ""])
    def test_one_field_is_enough(self, tmp_path: Path, value: str) -> None:
        """Even one without a value."""
        passdb = f"[[passdb]]\ndriver = 'static'\nfields = {{ nopassword = 'y', userdb_home = '{value}' }}\n"
        site = Site(tmp_path, passdb + "[[userdb]]\ndriver = 'prefetch'\n")
        assert isinstance(site.fetch("t"), UserFound)

    def test_alone_it_fails_for_all_others(self, tmp_path: Path) -> None:
        """A temporary failure, with Dovecot's words."""
        site = Site(tmp_path, PREFETCHED + "[[userdb]]\ndriver = 'prefetch'\n")
        assert dict(site.fetch("pre").fields)["home"] == "/pre"
        assert site.fetch("t") == Failed(2)
        assert ("error", "passdb didn't return userdb entries") in site.events
        assert site.user("t") == Failed(1)
        assert ("error", "userdb lookup not possible with only userdb prefetch") in site.events
        with pytest.raises(ScriptError, match="userdbs don't support it"):
            site.users()


class TestPasswd:
    def test_the_systems_users_have_a_home(self, tmp_path: Path) -> None:
        """The one who runs this test, too."""
        me = pwd.getpwuid(os.getuid())
        site = Site(tmp_path, "first_valid_uid = 0\n[[passdb]]\ndriver = 'passwd'\n[[userdb]]\ndriver = 'passwd'\n")
        expected = [("system_groups_user", me.pw_name), ("uid", str(me.pw_uid)), ("gid", str(me.pw_gid))]
        assert site.user(me.pw_name) == UserFound(1, me.pw_name, [*expected, ("home", me.pw_dir)])
        assert site.user("no.such.user") == NotFound(1)
        assert me.pw_name in site.users()

    @pytest.mark.parametrize(
        ("limits", "listed"),
        [
            ("", ["b", "c"]),
            ("first_valid_uid = 0\n", ["a", "b", "c"]),
            ("first_valid_uid = 500\nlast_valid_uid = 500\n", ["b"]),
        ],
    )
    def test_it_lists_those_between_two_uids(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limits: str, listed: list[str]
    ) -> None:
        """The system's own users get no mail; whoever asks for one finds him."""
        users = [
            pwd.struct_passwd((name, "x", uid, 1, "", "/", "")) for name, uid in (("a", 499), ("b", 500), ("c", 501))
        ]
        monkeypatch.setattr(pwd, "getpwall", lambda: users)
        site = Site(tmp_path, f"{limits}[[passdb]]\ndriver = 'pam'\n[[userdb]]\ndriver = 'passwd'\n")
        assert listed == site.users()
        assert isinstance(site.user(pwd.getpwuid(0).pw_name), UserFound)

    @pytest.mark.parametrize(
        ("stored", "password", "let_in"),
        [("x", "x", False), ("*", "*", False), ("!", "!", False), ("", "", False), ("{PLAIN}pass", "pass", True)],
    )
    def test_only_a_hash_that_is_there_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str, password: str, let_in: bool
    ) -> None:
        """A shadowed or locked one lets nobody in, and an empty one neither."""
        entry = pwd.struct_passwd(("t", stored, 1, 1, "", "/", ""))
        monkeypatch.setattr(pwd, "getpwnam", lambda name: entry)
        site = Site(tmp_path, "[[passdb]]\ndriver = 'passwd'\n[[userdb]]\ndriver = 'passwd'\n")
        assert isinstance(site.login("t", password), Ok if let_in else Fail)


class TestPam:
    @pytest.mark.parametrize(
        ("number", "result"),
        [
            (None, PassdbResult.OK),
            (7, PassdbResult.PASSWORD_MISMATCH),
            (10, PassdbResult.USER_UNKNOWN),
            (12, PassdbResult.PASS_EXPIRED),
            (13, PassdbResult.PASS_EXPIRED),
            (4, PassdbResult.INTERNAL_FAILURE),
            (9, PassdbResult.INTERNAL_FAILURE),
        ],
    )
    def test_each_answer_has_its_result(
        self, monkeypatch: pytest.MonkeyPatch, number: int | None, result: PassdbResult
    ) -> None:
        """A set-up that is broken is no wrong password."""
        pamela = pytest.importorskip("pamela")
        asked = []

        def authenticate(*args: Any) -> None:
            asked.append(args)
            if number is not None:
                raise pamela.PAMError(errno=number)

        monkeypatch.setattr(pamela, "authenticate", authenticate)
        request = AuthRequest("imap")
        request.user = "t\udcff"
        reply = run(PamPassdb("mail", dialect=Dialect.V2_3, id=1).verify_plain(request, Secret(b"pa\xffss")))
        assert (reply.result, asked) == (result, [(b"t\xff", (b"pa\xffss",), "mail")])

    @pytest.mark.parametrize(
        ("dialect", "service"),
        [(Dialect.V2_3, "mail-%s"), (Dialect.V2_4, "mail-%{protocol}"), (Dialect.V2_4, "mail-imap")],
    )
    def test_its_service_may_depend_on_who_asks(
        self, monkeypatch: pytest.MonkeyPatch, dialect: Dialect, service: str
    ) -> None:
        """One file in ``/etc/pam.d`` for each service, as ``args = %s`` has it in 2.3."""
        pamela = pytest.importorskip("pamela")
        asked = []
        monkeypatch.setattr(pamela, "authenticate", lambda *args: asked.append(args[2]))
        request = AuthRequest("imap")
        request.user = "t"
        passdb = PamPassdb(service, dialect=dialect, id=1)
        assert run(passdb.verify_plain(request, Secret(b"x"))).result is PassdbResult.OK
        assert asked == ["mail-imap"]

    def test_a_nul_is_never_cut_off(self) -> None:
        """PAM is C: the rest would not be looked at."""
        request = AuthRequest("imap")
        request.user = "t"
        assert (
            run(PamPassdb("mail", dialect=Dialect.V2_3, id=1).verify_plain(request, Secret(b"pass\0x"))).result
            is PassdbResult.PASSWORD_MISMATCH
        )

    def test_it_tells_no_password(self) -> None:
        """So it cannot serve CRAM-MD5 and the like."""
        reply = run(PamPassdb("mail", dialect=Dialect.V2_3, id=1).lookup(AuthRequest("imap")))
        assert reply.result is PassdbResult.SCHEME_NOT_AVAILABLE

    @pytest.mark.root
    @pytest.mark.skipif(os.geteuid() != 0 or not Path("/etc/pam.d").is_dir(), reason="needs root and /etc/pam.d")
    def test_the_real_pam_is_asked(self) -> None:
        """A service that permits everybody, and one that denies everybody."""
        pytest.importorskip("pamela")
        request = AuthRequest("imap")
        request.user = pwd.getpwuid(0).pw_name
        for module, result in (("permit", PassdbResult.OK), ("deny", PassdbResult.PASSWORD_MISMATCH)):
            service = Path(f"/etc/pam.d/authlua-test-{os.getpid()}")
            service.write_text(f"auth required pam_{module}.so\naccount required pam_{module}.so\n")
            try:
                assert (
                    run(PamPassdb(service.name, dialect=Dialect.V2_3, id=1).verify_plain(request, Secret(b"x"))).result
                    is result
                )
            finally:
                service.unlink()


def test_only_what_has_a_key_is_cached(tmp_path: Path) -> None:
    """Files are near, and know when they change."""
    (tmp_path / "users").write_text("t:pass:1:1\n")
    site = Site(tmp_path, f"cache_size = '1M'\n{PASSWD_FILE}{USER_FILE}")
    for _ in range(2):
        assert isinstance(site.fetch("t"), UserFound)
    assert site.core.auth.cache is not None
    assert site.core.auth.cache.statistics().entries == 0


def test_the_dialect_of_the_server_is_that_of_the_templates(tmp_path: Path) -> None:
    """2.4's names in 2.4, 2.3's in 2.3."""
    for dialect, template in ((Dialect.V2_3, "%Lu"), (Dialect.V2_4, "%{user | lower}")):
        site = Site(
            tmp_path,
            f"username_format = ''\n[[passdb]]\ndriver = 'static'\nfields = {{ nopassword = 'y', a = '{template}' }}\n"
            "[[userdb]]\ndriver = 'passwd'\n",
            dialect=str(dialect),
        )
        assert site.login("T") == Ok(1, "T", [("a", "t")], keep=True)
