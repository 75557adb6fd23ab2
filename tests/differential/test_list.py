"""All users of all userdbs: who is listed, and whether the list is whole, as a real Dovecot has it."""

import os

import pytest

from authlua.conformance.raw import RawConnection
from tests.differential.servers import DOVECOTS, Authlua, Server
from tests.reference.dovecot import why_not

LUA = """
function auth_userdb_lookup(request) return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "" end
function auth_userdb_iterate() return { "dave" } end
"""
NUMBERS = LUA.replace('{ "dave" }', '{ "one", 2, 3.0, 0.5, -1, [10] = "ten" }')
EMPTY = LUA.replace('{ "dave" }', "{}")
NO_TABLE = LUA.replace('{ "dave" }', '"dave"')
NO_TEXT = LUA.replace('{ "dave" }', '{ "dave", true }')
MISSING = LUA.replace("auth_userdb_iterate", "nobody_asks")
BROKEN = LUA.replace('return { "dave" }', 'error("down")')
FILE = "alice::5000:5000::/home/alice::\nbob::5000:5000::/home/bob::\n"

SITES = {
    "one": (["passwd-file"], LUA),
    "two": (["passwd-file", "lua"], LUA),
    "nobody knows": (["static"], LUA),
    "some know": (["static", "lua", "static", "passwd-file"], LUA),
    "the first is down": (["lua", "passwd-file"], BROKEN),
    "the last is down": (["passwd-file", "lua"], BROKEN),
    "numbers": (["lua"], NUMBERS),
    "nobody": (["lua"], EMPTY),
    "no table": (["lua"], NO_TABLE),
    "no text": (["lua"], NO_TEXT),
    "no function": (["lua"], MISSING),
    "prefetch first": (["prefetch", "passwd-file"], LUA),
}

SLICE = {("2.3", "the first is down"), ("2.4", "some know")}
"""What every run of the tests tries."""

PASSDB = {
    "2.3": "passdb {\n  driver = static\n  args = nopassword=y\n}\n",
    "2.4": "passdb static {\n  fields {\n    nopassword = yes\n  }\n}\n",
}
USERDB = {
    ("2.3", "passwd-file"): "  driver = passwd-file\n  args = {directory}/users\n",
    ("2.3", "lua"): "  driver = lua\n  args = file={directory}/auth.lua blocking=no\n",
    ("2.3", "static"): "  driver = static\n  args = uid=5000\n",
    ("2.3", "prefetch"): "  driver = prefetch\n",
    ("2.4", "passwd-file"): "  driver = passwd-file\n  passwd_file_path = {directory}/users\n",
    ("2.4", "lua"): "  driver = lua\n  lua_file = {directory}/auth.lua\n  use_worker = no\n",
    ("2.4", "static"): "  driver = static\n  fields {\n    uid = 5000\n  }\n",
    ("2.4", "prefetch"): "  driver = prefetch\n",
}


def dovecot(series: str, drivers: list[str]) -> str:
    text = PASSDB[series]
    for number, driver in enumerate(drivers):
        name = "" if series == "2.3" else f" db{number}"
        text += f"userdb{name} {{\n{USERDB[series, driver]}}}\n"
    return text


def authlua(drivers: list[str]) -> str:
    text = "[auth]\ninternal_failure_delay = 0\n[[passdb]]\ndriver = 'static'\nfields = { nopassword = 'y' }\n"
    more = {"passwd-file": "file = 'users'\n", "lua": "script = 'auth.lua'\nuse_worker = false\n"}
    return text + "".join(f"[[userdb]]\ndriver = '{driver}'\n{more.get(driver, '')}" for driver in drivers)


def listed(server: Server) -> list[str]:
    connection = RawConnection.connect(server.sockets["master"])
    connection.greeting()
    connection.send(b"VERSION\t1\t0\nLIST\t1\tuser=*\tservice=doveadm\n")
    lines: list[str] = []
    while not lines or not lines[-1].startswith("DONE"):
        line = connection.receive()
        assert line is not None, server.log()
        lines.append(line.decode())
    connection.close()
    return lines


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
@pytest.mark.parametrize("site", SITES)
def test_the_list_is_the_same(series: str, site: str) -> None:
    """In the order of the userdbs, with the same last word."""

    if reason := why_not(series):
        pytest.skip(reason)
    if (series, site) not in SLICE and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries all sites; each takes seconds")
    drivers, script = SITES[site]
    with DOVECOTS[series](script, databases=dovecot(series, drivers)) as real:
        (real.directory / "users").write_text(FILE)
        expected = listed(real)
        log = real.log()
    with Authlua(authlua(drivers), dialect=series, files={"auth.lua": script, "users": FILE}) as server:
        got = listed(server)
        log += server.log()
    if (series, site) == ("2.4", "the first is down"):
        expected[:0] = ["LIST\t1\talice", "LIST\t1\tbob"]  # 2.4 stops at a failure, 2.3 does not
    assert got == expected, log
