"""Lists of users: tables as Dovecot wants them, and iterators for who has too many."""

import pytest

from authlua.errors import ScriptError
from authlua.listing import PIECE
from authlua.wishes import Service
from tests.lua.conftest import Bench, listed, login, now

EVERY_LUA = pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"])

ITERATORS = {
    "a closure": "local i = 0 return function() i = i + 1 if i <= 2500 then return 'u' .. i end end",
    "as for a generic for": "return function(last, i) if i < last then return i + 1 end end, 2500, 0",
    "a coroutine": "return coroutine.wrap(function() for i = 1, 2500 do coroutine.yield('u' .. i) end end)",
    "of the library": "return ('x '):rep(2500):gmatch('%a')",
}


@EVERY_LUA
@pytest.mark.parametrize("how", ITERATORS)
def test_an_iterator_gives_users_in_pieces(bench: Bench, version: str, how: str):
    """Whatever a generic ``for`` takes."""
    listing = bench.userdb(f"function auth_userdb_iterate() {ITERATORS[how]} end", version=version).iterate()
    pieces = [now(listing.piece()) for _ in range(5)]
    assert [len(piece) for piece in pieces] == [PIECE, PIECE, 500, 0, 0]
    expected = {"as for a generic for": "{}", "of the library": "x"}.get(how, "u{}")
    assert [expected.format(i) for i in range(1, 2501)] == [name for piece in pieces for name in piece]


@EVERY_LUA
def test_a_table_is_listed_whole(bench: Bench, version: str):
    """In pieces too, as 5.1 holds no more than 8,000 values at once; and as it was when it was returned."""
    script = (
        "users = {}\nfor i = 1, 20500 do users[i] = 'u' .. i end\nfunction auth_userdb_iterate() return users end\n"
        "function auth_userdb_lookup() users[1500], users.new = nil, 'new' return 1, {} end"
    )
    userdb = bench.userdb(script, version=version)
    listing = userdb.iterate()
    first = now(listing.piece())
    now(userdb.lookup(login()))
    assert [f"u{i}" for i in range(1, 20501)] == [*first, *listed(listing)]
    assert listed(bench.userdb("function auth_userdb_iterate() return {} end").iterate()) == []


def test_no_more_is_asked_for_than_there_is_room(bench: Bench):
    """The iterator runs when a piece is wanted, and is let go with the listing."""
    userdb = bench.userdb(
        """
        given = 0
        function auth_userdb_iterate()
          return function() given = given + 1 return "u" .. given end
        end
        function auth_userdb_lookup() return 1, { given = given } end
        """
    )

    def given() -> int:
        return int(dict(now(userdb.lookup(login())).fields)["given"])

    endless, other = userdb.iterate(), userdb.iterate()
    assert given() == 0
    assert len(now(endless.piece())) == PIECE
    assert now(other.piece())[0] == f"u{PIECE + 1}"
    assert now(endless.piece())[0] == f"u{2 * PIECE + 1}"
    assert given() == 3 * PIECE
    assert userdb.busy == 2
    endless.close()
    other.close()
    assert userdb.busy == 0
    assert given() == 3 * PIECE


def test_an_endless_list_takes_no_memory(bench: Bench):
    """A million names through a state that may have two megabytes."""
    userdb = bench.userdb(
        "function auth_userdb_iterate() local i = 0 return function() i = i + 1 return 'user' .. i end end",
        memory_limit=2 << 20,
    )
    listing = userdb.iterate()
    for _ in range(1_000_000 // PIECE):
        names = now(listing.piece())
    assert names[-1] == "user1000000"
    listing.close()


def test_an_iterator_may_wait(bench: Bench):
    """For each page of somebody else's list, and other calls run meanwhile."""
    userdb = bench.userdb(
        """
        local client = dovecot.http.client{}
        function auth_userdb_iterate()
          local page = 0
          return function()
            page = page + 1
            local name = client:request{ url = "http://x/" .. page }:submit():payload()
            return name ~= "" and name or nil
          end
        end
        function auth_userdb_lookup() return 1, {} end
        """,
        version="5.4",
    )
    listing = userdb.iterate()
    call = listing.piece()
    wish = call.send(None)
    for name in (b"ann", b"bob"):
        assert isinstance(wish, Service)
        now(userdb.lookup(login()))
        wish = call.send((200, b"OK", b"", name, None, ()))
    with pytest.raises(StopIteration) as done:
        call.send((200, b"OK", b"", b"", None, ()))
    assert list(done.value.value) == ["ann", "bob"]
    assert now(listing.piece()) == ()
    listing.close()
    abandoned = userdb.iterate()
    call = abandoned.piece()
    call.send(None)
    call.close()
    abandoned.close()
    assert userdb.busy == 0


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (
            "error('no', 0)",
            "db-lua: auth_userdb_iterate failed: lua_pcall(auth_userdb_iterate, 0, 1) failed: no",
        ),
        ("return {}", "db-lua: Value is not string"),
        ("return true", "db-lua: Value is not string"),
        ("while true do end", "the script ran for too long without waiting"),
    ],
)
def test_an_iterator_that_fails(bench: Bench, act: str, problem: str):
    """Those before are listed; it is not as if there were no more."""
    userdb = bench.userdb(
        f"function auth_userdb_iterate() local i = 0 return function()"
        f" i = i + 1 if i > {PIECE} then {act} end return i end end",
        budget=100_000,
    )
    listing = userdb.iterate()
    assert now(listing.piece())[-1] == str(PIECE)
    with pytest.raises(ScriptError) as caught:
        now(listing.piece())
    assert problem in str(caught.value)
    listing.close()
    assert len(now(userdb.iterate().piece())) == PIECE


def test_a_listing_ends_with_its_script(bench: Bench):
    """Who is unloaded names nobody."""
    userdb = bench.userdb("function auth_userdb_iterate() return function() return 'u' end end")
    listing = userdb.iterate()
    now(listing.piece())
    userdb.close()
    with pytest.raises(ScriptError, match="unloaded while users were listed"):
        now(listing.piece())
    listing.close()
