"""The scripts in scripts/ answer what the real servers were seen to answer, as their headers tell."""

from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import LuaPassdb, LuaUserdb
from authlua.results import PassdbResult, UserdbResult
from tests.lua.conftest import SCRIPTS, Bench, listed, login, now

BOTH = pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4])


@BOTH
def test_a_passwd_file_serves_both_databases(bench: Bench, dialect: Dialect):
    """Script 01: found, unknown, userdb, list; the same in both dialects."""
    passdb = bench.passdb(SCRIPTS / "01-passwd-file.lua", dialect)
    userdb = bench.userdb(SCRIPTS / "01-passwd-file.lua", dialect)
    alice = now(passdb.lookup(login("alice")))
    assert (alice.result, dict(alice.fields)) == (
        PassdbResult.OK,
        {"password": "{SHA256}10/w7o2juYBrGMh32/KbveULW9jk2tejpyUAD+uC6PE=", "nodelay": "y"},
    )
    bob = now(passdb.lookup(login("bob")))
    assert dict(bob.fields) == {"password": "{PLAIN}pass", "allow_nets": "10.0.0.0/8"}
    nobody = now(passdb.lookup(login("nobody")))
    assert (nobody.result, list(nobody.fields), nobody.text) == (PassdbResult.USER_UNKNOWN, [], "")
    home = now(userdb.lookup(login("alice")))
    assert (home.result, dict(home.fields)) == (UserdbResult.OK, {"uid": "1000", "gid": "1000", "home": "/home/alice"})
    assert now(userdb.lookup(login("nobody"))).result == UserdbResult.USER_UNKNOWN
    assert listed(userdb.iterate()) == ["alice", "bob", "carol@example.com"]


PASS = ("password", "{PLAIN}pass")
OK, FAILED = PassdbResult.OK, "ScriptError"
SHAPES_PASSDB: dict[str, list[Any]] = {
    # user: what 2.3 makes of it, what 2.4.1 makes of it (the same when there is one)
    "ok-string": [(OK, {"password": "{PLAIN}pass", "foo": "bar", "flag": None}), FAILED],
    "ok-nil": [FAILED, (OK, {})],
    "ok-empty": [(OK, {})],
    "ok-nopass": [(OK, {"nopassword": "y"})],
    "ok-nopass-false": [(OK, {"nopassword": "no"})],
    "ok-badvalue": [(OK, dict([PASS]))],
    "ok-badscheme": [(OK, {"password": "{NOSUCH}x"})],
    "ok-rename": [(OK, {**dict([PASS]), "user": "renamed@example.com"})],
    "ok-userdb": [(OK, {**dict([PASS]), "userdb_uid": "1000", "userdb_home": "/h"})],
    "ok-fail": [(OK, {**dict([PASS]), "fail": "y", "reason": "because"})],
    "unknown": [(PassdbResult.USER_UNKNOWN, {})],
    "unknown-nil": [FAILED, (PassdbResult.USER_UNKNOWN, {})],
    "unknown-table": [(PassdbResult.USER_UNKNOWN, {}), FAILED],
    "disabled": [(PassdbResult.USER_DISABLED, {})],
    "expired": [(PassdbResult.PASS_EXPIRED, {})],
    "next": [(PassdbResult.NEXT, {"foo": "bar"}), (PassdbResult.NEXT, {})],
    "mismatch": [(PassdbResult.PASSWORD_MISMATCH, {})],
    "internal": [(PassdbResult.INTERNAL_FAILURE, {})],
    "nothing": [FAILED],
    "boolean": [FAILED],
    "string-code": [(OK, dict([PASS]))],
    "fraction": [(PassdbResult.PASSWORD_MISMATCH, {})],
    "error": [FAILED],
    "error-table": [FAILED],
}


def shape(database: LuaPassdb | LuaUserdb, user: str) -> object:
    """What a lookup of *user* comes to: result and fields, or `FAILED`."""
    try:
        reply = now(database.lookup(login(user)))
    except ScriptError:
        return FAILED
    return reply.result, dict(reply.fields)


@BOTH
@pytest.mark.parametrize("user", SHAPES_PASSDB)
def test_every_shape_of_a_passdb_result(bench: Bench, dialect: Dialect, user: str):
    """Script 03, passdb side."""
    passdb = bench.passdb(SCRIPTS / "03-return-shapes.lua", dialect)
    assert SHAPES_PASSDB[user][-1 if dialect is Dialect.V2_4 else 0] == shape(passdb, user)


def test_the_table_shape_carries_every_kind_of_value(bench: Bench):
    """Integers, fractions, booleans, tabs and empty texts, as the wire showed them; 2.3 knows no empty value."""
    expected = {"password": "{PLAIN}pass", "n": "5", "f": "0", "t": "yes", "no": "no", "s": "a\tb"}
    for dialect, empty in ((Dialect.V2_3, None), (Dialect.V2_4, "")):
        passdb = bench.passdb(SCRIPTS / "03-return-shapes.lua", dialect)
        assert {**expected, "e": empty} == dict(now(passdb.lookup(login("ok-table"))).fields)


USERDB_OK, UNKNOWN = UserdbResult.OK, UserdbResult.USER_UNKNOWN
HOME = {"uid": "1000", "gid": "1000", "home": "/h"}
SHAPES_USERDB: dict[str, list[Any]] = {
    "ok-table": [(USERDB_OK, {**HOME, "password": "kept"})],
    "ok-string": [(USERDB_OK, HOME), FAILED],
    "ok-nil": [FAILED, (USERDB_OK, {})],
    "ok-empty": [(USERDB_OK, {})],
    "ok-tempfail": [(USERDB_OK, {"tempfail": "y", "reason": "later"})],
    "ok-rename": [(USERDB_OK, {"user": "other", "uid": "1000"})],
    "unknown": [(UNKNOWN, {})],
    "unknown-nil": [FAILED, (UNKNOWN, {})],
    "unknown-table": [(UNKNOWN, {}), FAILED],
    "internal": [(UserdbResult.INTERNAL_FAILURE, {})],
    "nothing": [FAILED],
    "error": [FAILED],
}


@BOTH
@pytest.mark.parametrize("user", SHAPES_USERDB)
def test_every_shape_of_a_userdb_result(bench: Bench, dialect: Dialect, user: str):
    """Script 03, userdb side."""
    userdb = bench.userdb(SCRIPTS / "03-return-shapes.lua", dialect)
    assert SHAPES_USERDB[user][-1 if dialect is Dialect.V2_4 else 0] == shape(userdb, user)


def test_a_list_has_strings_and_numbers_whatever_their_keys(bench: Bench):
    """Script 03: one, two, three, 4 in Lua's own order."""
    userdb = bench.userdb(SCRIPTS / "03-return-shapes.lua")
    assert sorted(listed(userdb.iterate())) == ["4", "one", "three", "two"]


def test_the_request_object_of_2_3(bench: Bench):
    """Script 04 under 2.3, line for line."""
    passdb = bench.passdb(SCRIPTS / "04-request-object.lua", Dialect.V2_3, verbose=True)
    reply = now(passdb.lookup(someone()))
    assert (reply.result, list(reply.fields)) == (OK, [PASS])
    assert [
        "user = someone@example.com",
        "username (2.3 only) = someone",
        "service/protocol = imap | nil",
        "rip/remote_ip = 192.0.2.7 | 192.0.2.7",
        "home = nil",
        "unknown member = nil",
        "flags = false | false",
        "passdb subtable = nil | nil",
        "own field = mine",
        "expand 2.3 syntax = true | someone/example.com SOMEONE@EXAMPLE.COM UNSUPPORTED_VARIABLE_nosuch",
        "expand 2.4 syntax = true | UNSUPPORTED_VARIABLE_user | username/UNSUPPORTED_VARIABLE_user | domain | upper",
        "expand unknown = true | UNSUPPORTED_VARIABLE_nosuch",
        *VERIFIED,
    ] == [text.removeprefix("db-lua: ") for text in bench.texts]


def test_the_request_object_of_2_4(bench: Bench):
    """Script 04 under 2.4, line for line."""
    passdb = bench.passdb(SCRIPTS / "04-request-object.lua", Dialect.V2_4, verbose=True)
    reply = now(passdb.lookup(someone()))
    assert (reply.result, list(reply.fields)) == (OK, [PASS])
    assert [
        "user = someone@example.com",
        "username (2.3 only) = nil",
        "service/protocol = nil | imap",
        "rip/remote_ip = nil | 192.0.2.7",
        "home = nil",
        "unknown member = nil",
        "flags = false | false",
        "passdb subtable = nil | nil",
        "own field = mine",
        "expand 2.3 syntax = false | var_expand(%n/%d %Uu %{nosuch}) failed: Unknown variable 'nosuch'",
        "expand 2.4 syntax = true | someone/EXAMPLE.COM",
        "expand unknown = false | var_expand(%{nosuch}) failed: Unknown variable 'nosuch'",
        *VERIFIED,
    ] == [text.removeprefix("db-lua: ") for text in bench.texts]


VERIFIED = [
    "verify ok = true | 1.0 | nil",
    "verify bad = true | 0.0 | Password mismatch",
    "verify unknown scheme = true | 0.0 | Unknown scheme NOSUCH",
    "verify bad data = true | -1.0 | "
    "Password data is not valid for scheme SHA256: Input isn't valid base64 encoded data",
]


def someone():
    return login("someone@example.com", rip="192.0.2.7", real_rip="192.0.2.7", session="S1")


@BOTH
def test_events(bench: Bench, dialect: Dialect):
    """Script 05: prefixes, the one-shot name, fields, the passthrough, and the texts of wrong arguments."""
    passdb = bench.passdb(SCRIPTS / "05-events.lua", dialect, verbose=True)
    request = login("x")
    assert list(now(passdb.lookup(request)).fields) == [PASS]
    path = str(SCRIPTS / "05-events.lua")
    own = {"script": path, "who": "me", "count": 3, "at": "1700000000.0"}
    bad_integer = f"db-lua: {path}:28: bad argument #2 to 'add_int' (number expected, got string)"
    assert [
        ("info", "plain child of the request", request, {}),
        ("info", "first: one prefix", request, {}),
        ("info", "second: the same event has only one prefix", request, {}),
        ("info", "second: third: prefixes add up along the chain", request, {}),
        ("info", "replaced", request, {"log_prefix": "alone: "}),
        ("info", "named once", None, {**own, "event_name": "example_finished"}),
        ("info", "pt: temporary", None, {**own, "k": "v"}),
        ("info", "unchanged by the passthrough", None, own),
        ("info", bad_integer, request, {}),
        ("info", "db-lua: expected 2 arguments, got 1", request, {}),
        ("info", "db-lua: Bad argument #1, expected struct event got string", request, {}),
        ("warning", "generic warning", None, {}),
    ] == bench.lines


@pytest.mark.parametrize(
    ("dialect", "kind", "suffix"), [(Dialect.V2_3, "nil", "none"), (Dialect.V2_4, "table", "from-config")]
)
def test_the_life_of_a_script(bench: Bench, dialect: Dialect, kind: str, suffix: str):
    """Script 06: top level, script_init, restricted globals, script_deinit; a cache key in 2.4 alone."""
    passdb = bench.passdb(SCRIPTS / "06-life-cycle.lua", dialect, verbose=True, settings={"suffix": "from-config"})
    assert ["top level, dovecot.auth is a table", f"script_init({kind})"] == bench.texts
    assert ("%{user}" if dialect is Dialect.V2_4 else None) == passdb.cache_key
    bench.lines.clear()
    assert {"password": "{PLAIN}pass", "suffix": suffix} == dict(now(passdb.lookup(login("x"))).fields)
    assert bench.texts == [
        "db-lua: attempt to write to undeclared global variable undeclared",
        "db-lua: attempt to write to read undeclared global variable also_undeclared",
    ]
    bench.lines.clear()
    bench.close()
    assert bench.texts == ["script_deinit"]
