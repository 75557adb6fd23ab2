"""The auth cache: what is remembered, for how long, and what is not."""

import hmac
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.auth import RULES, CacheKey, new_request
from authlua.auth.cache import Cache
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.protocol import Fail, NotFound, Ok, PassFound, UserFound
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult, UserdbResult
from authlua.secret import Secret
from authlua.variables import ExpansionError, compile_template
from authlua.wishes import Compute, Flight, Sleep
from tests.auth.fakes import DictPassdb, House, run

PASS = {"password": "{PLAIN}pass"}


class JudgePassdb(DictPassdb):
    """Knows by itself that "pass" is everybody's password."""

    verifies = True

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        reply = await self.lookup(request)
        return reply if password == Secret(b"pass") else PassdbReply(PassdbResult.PASSWORD_MISMATCH)


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(
    template: str = "%u", *, kind: str = "P", id: int = 1, dialect: Dialect = Dialect.V2_3, fields: Sequence[str] = ()
) -> CacheKey:
    found = CacheKey.of_template(
        kind, id, compile_template(template, dialect), dialect, [compile_template(field, dialect) for field in fields]
    )
    assert found is not None
    return found


def cached_house(
    *passdbs: Any,
    userdbs: Any = (),
    placed: list[dict[str, Any]] | None = None,
    **options: Any,
) -> tuple[House, Clock]:
    """A house with a cache, on a clock of the test's own."""
    keys = [{**(placed[i] if placed else {}), "cache_key": key()} for i in range(len(passdbs))]
    house = House(*passdbs, userdbs=userdbs, placed=keys, userdb_key=key(kind="U"), cache_size=1 << 20, **options)
    clock = Clock()
    assert house.auth.cache is not None
    house.auth.cache._clock = clock
    return house, clock


def login(house: House, user: str, password: str = "pass", **params: str) -> Ok | Fail:
    request = new_request([("service", "imap"), *params.items()], id=1, mech="PLAIN")
    reply: Ok | Fail = run(house.auth.authenticate(request, Secret(f"\0{user}\0{password}".encode()), login=False))
    return reply


class TestLogins:
    def test_the_second_login_asks_nobody(self) -> None:
        """And gets the same answer, fields and all."""
        house, _ = cached_house({"t": {**PASS, "a": "b", "userdb_home": "/t"}})
        assert [Ok(1, "t", [("a", "b")])] * 2 == [login(house, "t"), login(house, "t")]
        assert house.passdbs[0].asked == ["t"]

    def test_without_a_size_nothing_is_remembered(self) -> None:
        """As without a key: the cache is off."""
        house = House({"t": PASS}, placed=[{"cache_key": key()}])
        login(house, "t")
        login(house, "t")
        assert (house.auth.cache, house.passdbs[0].asked) == (None, ["t", "t"])

    def test_an_unknown_user_stays_unknown_for_the_negative_ttl(self) -> None:
        """Then the passdb is asked again."""
        house, clock = cached_house({}, cache_negative_ttl=10)
        login(house, "t")
        clock.now += 9
        login(house, "t")
        assert house.passdbs[0].asked == ["t"]
        clock.now += 2
        login(house, "t")
        assert house.passdbs[0].asked == ["t", "t"]

    def test_without_a_negative_ttl_only_users_are_remembered(self) -> None:
        """``auth_cache_negative_ttl = 0``."""
        house, _ = cached_house({}, cache_negative_ttl=0)
        login(house, "t")
        login(house, "t")
        assert house.passdbs[0].asked == ["t", "t"]

    def test_a_user_is_remembered_for_the_ttl(self) -> None:
        """Then the passdb is asked again."""
        house, clock = cached_house({"t": PASS}, cache_ttl=10)
        login(house, "t")
        clock.now += 11
        login(house, "t")
        assert house.passdbs[0].asked == ["t", "t"]

    def test_a_wrong_password_after_a_right_one_asks_again_once(self) -> None:
        """It may have been changed. The next wrong one is answered from the cache."""
        house, _ = cached_house({"t": PASS})
        for password in ("pass", "x", "y", "z"):
            login(house, "t", password)
        assert house.passdbs[0].asked == ["t", "t"]

    def test_a_changed_password_is_noticed(self) -> None:
        """The old one no longer lets anybody in, the new one does at once."""
        users = {"t": PASS}
        house, _ = cached_house(users)
        login(house, "t")
        users["t"] = {"password": "{PLAIN}new"}
        assert isinstance(login(house, "t", "new"), Ok)
        assert isinstance(login(house, "t", "pass"), Fail)

    def test_a_wrong_password_is_looked_up_when_the_entry_is_older_than_the_negative_ttl(self) -> None:
        """Section 10."""
        house, clock = cached_house({"t": PASS}, cache_negative_ttl=10)
        login(house, "t", "x")
        login(house, "t", "y")
        assert house.passdbs[0].asked == ["t"]
        clock.now += 11
        login(house, "t", "y")
        assert house.passdbs[0].asked == ["t", "t"]

    def test_fields_act_each_time(self) -> None:
        """``allow_nets`` is a field like any other, and asks where this client comes from."""
        house, _ = cached_house({"t": {**PASS, "allow_nets": "192.0.2.0/24"}})
        assert isinstance(login(house, "t", rip="192.0.2.1"), Ok)
        assert isinstance(login(house, "t", rip="198.51.100.1"), Fail)
        assert isinstance(login(house, "t", rip="192.0.2.7"), Ok)
        assert house.passdbs[0].asked == ["t"]

    def test_a_changed_name_is_changed_again(self) -> None:
        """And the key stays that of the name as it was typed."""
        house, _ = cached_house({"t": {**PASS, "user": "other"}})
        assert [Ok(1, "other", [("original_user", "t")])] * 2 == [login(house, "t"), login(house, "t")]
        assert house.passdbs[0].asked == ["t"]

    def test_any_password_stays_any_password(self) -> None:
        """``nopassword``."""
        house, _ = cached_house({"t": {"nopassword": None}})
        assert isinstance(login(house, "t", "a"), Ok)
        assert isinstance(login(house, "t", "b"), Ok)
        assert house.passdbs[0].asked == ["t"]

    def test_what_contradicts_itself_is_not_remembered(self) -> None:
        """A password and none: refused, as without a cache."""
        house, _ = cached_house({"t": {**PASS, "nopassword": None}})
        assert [Fail, Fail] == [type(login(house, "t")) for _ in range(2)]
        assert house.passdbs[0].asked == ["t", "t"]

    @pytest.mark.parametrize(
        "result",
        [
            PassdbResult.INTERNAL_FAILURE,
            PassdbResult.SCHEME_NOT_AVAILABLE,
            PassdbResult.USER_DISABLED,
            PassdbResult.PASS_EXPIRED,
            PassdbResult.NEXT,
        ],
    )
    def test_other_results_are_not_remembered(self, result: PassdbResult) -> None:
        """Only users who are there and users who are not."""
        house, _ = cached_house({"t": result})
        assert login(house, "t") == login(house, "t")
        assert house.passdbs[0].asked == ["t", "t"]

    def test_a_passdb_that_judges_itself_is_remembered_by_the_right_password(self) -> None:
        """As a hash of it; whether another is right, only the passdb knows."""
        passdb = JudgePassdb({"t": {"a": "b"}})
        house, _ = cached_house(passdb)
        assert house.auth.cache is not None
        assert Ok(1, "t", [("a", "b")]) == login(house, "t") == login(house, "t")
        assert passdb.asked == ["t"]
        (entry,) = house.auth.cache._entries.values()
        assert entry.credentials is not None
        assert entry.credentials.startswith("{SSHA256}")
        assert isinstance(login(house, "t", "x"), Fail)
        assert passdb.asked == ["t", "t"]

    def test_a_deny_passdb_never_compares(self) -> None:
        """Whoever it knows is out, from the cache too."""
        house, _ = cached_house({"t": PASS}, PASS_ALL, placed=[{"deny": True}, {}])
        assert dict(login(house, "t").fields)["code"] == dict(login(house, "t").fields)["code"] == "user_disabled"
        assert house.passdbs[0].asked == ["t"]

    def test_masters_have_entries_of_their_own(self) -> None:
        """What a userdb or passdb says to a master may be something else."""
        request = AuthRequest("imap")
        request.user = request.translated_user = "t"
        request.master_user = "m\tm"
        assert key().expand(request) == "P1+m\x01tm\tt"

    def test_what_was_cached_is_not_set_when_the_passdb_is_asked_again(self) -> None:
        """Nothing of it is left beside what the passdb says now."""
        users: dict[str, Any] = {"t": {**PASS, "old": "y", "user": "renamed", "userdb_old": "y"}}
        house, _ = cached_house(users)
        login(house, "t")
        users["t"] = {"password": "{PLAIN}new", "a": "b"}
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        reply = run(house.auth.authenticate(request, Secret(b"\0t\0new"), login=False))
        assert reply == Ok(1, "t", [("a", "b")])
        assert request.userdb_fields is None

    def test_the_log_says_where_an_answer_came_from(self) -> None:
        """From the cache, or why not."""
        house, clock = cached_house(
            {"t": PASS, "any": {"nopassword": None}}, cache_ttl=10, cache_negative_ttl=5, debug=True
        )

        def told(user: str) -> list[str]:
            house.log.clear()
            login(house, user)
            return [text for _, text in house.log if "ache" in text or text == "unknown user"]

        assert told("t") == ["cache miss"]
        assert told("t") == ["cache hit: password"]
        assert told("nobody") == ["cache miss", "unknown user"]
        assert told("nobody") == ["cache hit: unknown user", "unknown user"]
        assert told("any") == ["cache miss"]
        assert told("any") == ["cache hit: password nopassword", "Cached NULL password access"]
        clock.now += 6
        assert told("t") == ["cache hit: password"]
        assert told("nobody") == ["cache expired", "unknown user"]
        clock.now += 5
        assert told("t") == ["cache expired"]

    @pytest.mark.parametrize(("size", "ttl", "is_there"), [(1 << 20, 60, True), (0, 60, False), (1 << 20, 0, False)])
    def test_a_cache_has_a_size_and_a_ttl(self, size: int, ttl: float, is_there: bool) -> None:
        """Without one of them there is none."""
        house = House({"t": PASS}, placed=[{"cache_key": key()}], cache_size=size, cache_ttl=ttl)
        login(house, "t")
        login(house, "t")
        assert (house.auth.cache is not None) is is_there
        assert len(house.passdbs[0].asked) == (1 if is_there else 2)

    def test_passdbs_and_userdbs_share_it(self) -> None:
        """Each has entries of its own; who has no key has none."""
        house, _ = cached_house({"t": PASS}, {}, userdbs=[{"t": {}}])
        house.auth._passdbs._passdbs[1] = replace(house.auth._passdbs._passdbs[1], cache_key=None)
        login(house, "t")
        login(house, "u")
        run(house.auth.lookup_user(new_request([("service", "x")], id=1), "t"))
        assert house.auth.cache is not None
        assert list(house.auth.cache._entries) == ["P1\tt", "P1\tu", "U1\tt"]


PASS_ALL = {"t": PASS, "u": PASS}


class TestOutages:
    def test_an_expired_entry_is_better_than_none(self) -> None:
        """Last known good: the right password is let in, and the log says why.

        Another one may be new, if the last was right or that is long ago, and only the passdb could tell; else it is
        wrong, as it was before.
        """
        users: dict[str, Any] = {"t": PASS}
        house, clock = cached_house(users, cache_ttl=10, verbose=True)
        login(house, "t")
        clock.now += 1000
        users["t"] = ScriptError("auth.lua:1: the database is down")
        assert isinstance(login(house, "t"), Ok)
        assert dict(login(house, "t", "wrong").fields)["code"] == "temp_fail"
        assert "code" not in dict(login(house, "t", "wrong").fields)
        assert isinstance(login(house, "t"), Ok)
        clock.now += 3600
        assert dict(login(house, "t", "wrong").fields)["code"] == "temp_fail"
        fallen, down = (
            ("info", "Falling back to expired data from cache"),
            ("error", "auth.lua:1: the database is down"),
        )
        assert house.log == [*[down, fallen] * 3, ("info", "Password mismatch"), *[down, fallen] * 2]

    def test_a_password_that_may_have_changed_is_a_mismatch_once(self) -> None:
        """The log does not say it of the remembered one and of the passdb's own."""
        house, _ = cached_house({"t": PASS}, verbose=True)
        for password in ("pass", "wrong", "wrong"):
            login(house, "t", password)
        assert house.log == [("info", "Password mismatch")] * 2
        assert house.passdbs[0].asked == ["t", "t"]

    def test_who_was_never_seen_gets_the_temporary_failure(self) -> None:
        """An outage is never an unknown user."""
        house, _ = cached_house({"t": ScriptError("down")})
        assert dict(login(house, "t").fields)["code"] == "temp_fail"

    def test_a_failure_is_not_remembered(self) -> None:
        """The passdb is asked until it answers."""
        users: dict[str, Any] = {"t": ScriptError("down")}
        house, _ = cached_house(users)
        login(house, "t")
        users["t"] = PASS
        assert isinstance(login(house, "t"), Ok)


class TestLookups:
    def test_a_lookup_and_a_login_share_an_entry(self) -> None:
        """Each sees the stored password as the passdb gave it."""
        house, _ = cached_house({"t": {**PASS, "a": "b"}})
        run(house.auth.lookup_passdb(new_request([("service", "x")], id=1), "t"))
        assert login(house, "t") == Ok(1, "t", [("a", "b")])
        assert house.passdbs[0].asked == ["t"]

    def test_pass_is_answered_from_the_cache(self) -> None:
        """Fields and all."""
        house, _ = cached_house({"t": {**PASS, "a": "b"}})
        for _ in range(2):
            request = new_request([("service", "x")], id=1)
            assert run(house.auth.lookup_passdb(request, "t"))[1] == PassFound(1, "t", [("a", "b")])
            assert request.credentials == "{PLAIN}pass"
        assert house.passdbs[0].asked == ["t"]

    def test_challenges_are_judged_from_the_cache(self) -> None:
        """By the stored password, in its scheme."""
        house, _ = cached_house({"t": PASS})
        for password, kind in (("pass", Ok), ("pass", Ok), ("wrong", Fail)):
            core = house.auth.authenticate(new_request([("service", "x")], id=1, mech="CRAM-MD5"), None, login=False)
            wish: Any = core.send(None)
            digest = hmac.digest(password.encode(), wish.challenge, "md5").hex()
            assert isinstance(finish(core, Secret(f"t {digest}".encode())), kind)
        assert house.passdbs[0].asked == ["t"]

    def test_userdbs_are_remembered(self) -> None:
        """Users with fields, without, and those that are not there."""
        users: dict[str, Any] = {"t": {"home": "/t"}, "bare": {}, "renamed": {"user": "new"}}
        house, _ = cached_house(userdbs=[users])

        def ask(name: str) -> Any:
            return run(house.auth.lookup_user(new_request([("service", "x")], id=1), name))

        first = [ask(name) for name in ("t", "bare", "renamed", "nobody")]
        users.clear()
        assert first == [ask(name) for name in ("t", "bare", "renamed", "nobody")]
        assert first == [
            UserFound(1, "t", [("home", "/t")]),
            UserFound(1, "bare", []),
            UserFound(1, "new", []),
            NotFound(1),
        ]

    @pytest.mark.parametrize(("dialect", "kept"), [(Dialect.V2_3, True), (Dialect.V2_4, False)])
    def test_a_userdb_that_did_not_know_the_user_leaves_its_defaults_in_2_3(self, dialect: Dialect, kept: bool) -> None:
        """From the cache, too."""
        house, _ = cached_house(userdbs=[{"t": {"home": "/t"}}, {}], dialect=dialect)
        first, second = house.auth._userdbs._entries
        defaults = [("d", compile_template("x", dialect))]
        house.auth._userdbs._entries = [
            replace(first, result_success=RULES["continue-ok"]),
            replace(second, default_fields=defaults, cache_key=key(kind="U", id=2)),
        ]
        expected = [("home", "/t"), ("d", "x")] if kept else [("home", "/t")]
        for _ in range(2):
            found = run(house.auth.lookup_user(new_request([("service", "x")], id=1), "t"))
            assert found == UserFound(1, "t", expected)
        assert house.auth.cache is not None
        assert house.auth.cache.statistics().hits == 2

    def test_a_temporary_failure_of_a_userdb_is_not(self) -> None:
        """But it falls back to what was known."""
        users: dict[str, Any] = {"t": {"tempfail": "y"}}
        house, clock = cached_house(userdbs=[users])

        def ask() -> Any:
            return run(house.auth.lookup_user(new_request([("service", "x")], id=1), "t"))

        ask()
        users["t"] = {"home": "/t"}
        assert ask() == UserFound(1, "t", [("home", "/t")])
        clock.now += 1e6
        users["t"] = UserdbResult.INTERNAL_FAILURE
        assert ask() == UserFound(1, "t", [("home", "/t")])


class TestSharing:
    def start(self, house: House, password: str = "pass", user: str = "t") -> Any:
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        return house.auth.authenticate(request, Secret(f"\0{user}\0{password}".encode()), login=False)

    def slow(self, house: House) -> None:
        passdb = house.passdbs[0]
        ask = passdb.lookup

        async def lookup(request: AuthRequest) -> PassdbReply:
            await Sleep(1)
            return await ask(request)

        passdb.lookup = lookup  # type: ignore[method-assign]

    def test_one_call_serves_all_who_ask_meanwhile(self) -> None:
        """Each compares its own password with the answer."""
        house, _ = cached_house({"t": PASS})
        self.slow(house)
        first, second, third = self.start(house), self.start(house), self.start(house, "wrong")
        assert isinstance(first.send(None), Sleep)
        flights = [second.send(None), third.send(None)]
        assert all(isinstance(flight, Flight) for flight in flights)
        woken: list[int] = []
        flights[0].when_landed(lambda: woken.append(1))
        assert isinstance(finish(first), Ok)
        assert woken == [1]
        assert isinstance(finish(second), Ok)
        assert isinstance(finish(third), Fail)
        # the wrong password asks once more: it may have been changed
        assert house.passdbs[0].asked[:1] == ["t"]

    def test_the_next_takes_over_when_the_first_gives_up(self) -> None:
        """A client that hangs up takes nobody with it."""
        house, _ = cached_house({"t": PASS})
        self.slow(house)
        first, second = self.start(house), self.start(house)
        first.send(None)
        flight = second.send(None)
        first.close()
        landed: list[int] = []
        flight.when_landed(lambda: landed.append(1))
        assert landed == [1]
        assert isinstance(second.send(None), Sleep)
        assert isinstance(finish(second), Ok)

    def test_a_failure_is_shared_too(self) -> None:
        """A database that is down is not asked once more by each who waited."""
        house, _ = cached_house({"t": ScriptError("down")})
        self.slow(house)
        first, second = self.start(house), self.start(house)
        first.send(None)
        second.send(None)
        assert dict(finish(first).fields)["code"] == dict(finish(second).fields)["code"] == "temp_fail"
        assert house.passdbs[0].asked == ["t"]

    def test_one_slow_hash_serves_all_who_gave_that_password(self) -> None:
        """With or without a cache; another password is another hash."""
        house = House({"t": {"password": "{SHA512-CRYPT}$6$a$x"}})
        first, second, third = self.start(house), self.start(house), self.start(house, "other")
        assert isinstance(first.send(None), Compute)
        assert isinstance(second.send(None), Flight)
        assert isinstance(third.send(None), Compute)
        assert isinstance(finish(first, True), Ok)
        assert isinstance(finish(second), Ok)
        assert isinstance(finish(third, False), Fail)

    def test_a_cached_slow_hash_is_computed_elsewhere(self) -> None:
        """So is a quick one, if that is wanted."""
        house, _ = cached_house({"t": {"password": "{SHA512-CRYPT}$6$a$x"}})
        core = self.start(house)
        core.send(None)
        finish(core, True)
        assert isinstance(self.start(house).send(None), Compute)
        house, _ = cached_house({"t": PASS}, cache_verify_password_with_worker=True)
        login(house, "t")
        assert isinstance(self.start(house).send(None), Compute)


def finish(core: Any, answer: Any = None) -> Any:
    with pytest.raises(StopIteration) as done:
        core.send(answer)
    return done.value.value


class TestKeys:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("%u", "t@x"),
            ("%n", "t"),
            ("%n%d", "t@x"),
            ("%d:%n:%s", "t@x\timap"),
            ("%s/%u", "t@x\timap"),
            ("%u %u", "t@x"),
            ("%r%Lu", "t@x\t192.0.2.1"),
        ],
    )
    def test_only_the_variables_count(self, template: str, expected: str) -> None:
        """In fixed order, the user first; a local part with a domain is the user."""
        request = new_request([("service", "imap"), ("rip", "192.0.2.1")], id=1)
        request.user, request.translated_user = "changed", "t@x"
        assert key(template).expand(request) == f"P1\t{expected}"
        assert request.user == "changed"

    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("%{user | md5 % 4}", "t@x"),
            ("%{user}%{generate:uuid}%{time:us}%{system:os}", "t@x"),
            ("%{user | username}@%{user | domain}", "t@x"),
            ("%{passdb:x}/%{user}", "t@x\ty"),
        ],
    )
    def test_what_is_no_matter_of_the_request_does_not_count(self, template: str, expected: str) -> None:
        """What 2.4 finds out about the moment and the machine, and filters."""
        request = new_request([("service", "imap")], id=1)
        request.user = request.translated_user = "t@x"
        request.passdb_fields["x"] = "y"
        assert key(template, dialect=Dialect.V2_4).expand(request) == f"P1\t{expected}"

    @pytest.mark.parametrize("dialect", Dialect)
    @pytest.mark.parametrize("template", ["", "fixed", "%{env:HOME}", "%{system:hostname}"])
    def test_a_template_without_variables_is_no_key(self, template: str, dialect: Dialect) -> None:
        """All users would share one entry, as they do in Dovecot up to 2.4.2."""
        assert CacheKey.of_template("P", 1, compile_template(template, dialect), dialect) is None

    def test_a_variable_must_be_known(self) -> None:
        """In 2.4; 2.3 passes over it."""
        assert key("%u%{nosuch}").expand(new_request([("service", "imap")], id=1)) == "P1\t"
        with pytest.raises(ExpansionError, match=r"^Unknown variable 'nosuch'$"):
            key("%{user}%{nosuch}", dialect=Dialect.V2_4)

    def test_fields_beside_the_database_are_part_of_the_answer(self) -> None:
        """Their variables join the key, those of earlier answers aside."""
        request = new_request([("service", "imap"), ("rip", "192.0.2.1")], id=1)
        request.user = request.translated_user = "t"
        assert key("%u", fields=["/%r/%{passdb:x}"]).expand(request) == "P1\tt\t192.0.2.1"

    @given(st.text(), st.text())
    def test_two_users_never_share_a_key(self, one: str, other: str) -> None:
        """Whatever characters their names are made of."""
        first, second = AuthRequest(params={"session": one}), AuthRequest(params={"session": other})
        first.translated_user, second.translated_user = other, one
        template = key("%u%{session}")
        assert (template.expand(first) == template.expand(second)) == (one == other)


class TestBounds:
    def test_a_full_cache_forgets_who_was_not_seen_for_longest(self) -> None:
        """And counts it."""
        cache = Cache(3000, ttl=60, negative_ttl=60)
        for name in "abc":
            cache.keep(f"P1\t{name}", "x", [], success=True)
        assert cache.find("P1\ta")
        for name in "de":
            cache.keep(f"P1\t{name}", "x", [], success=True)
        assert [name for name in "abcde" if cache.any_age(f"P1\t{name}")] == ["a", "c", "d", "e"]
        assert cache.statistics().evicted == 1
        assert cache.statistics().size <= 3000

    def test_a_cache_holds_a_kilobyte_at_least(self) -> None:
        """One entry, that is."""
        cache = Cache(1, ttl=60, negative_ttl=60)
        cache.keep("P1\ta", "x", [], success=True)
        assert cache.any_age("P1\ta")

    def test_what_is_larger_than_the_cache_is_not_kept(self) -> None:
        """It would push out everybody else for nothing."""
        cache = Cache(2000, ttl=60, negative_ttl=60)
        cache.keep("P1\ta", "x", [], success=True)
        cache.keep("P1\tb", "x" * 5000, [], success=True)
        assert cache.any_age("P1\ta")
        assert cache.any_age("P1\tb") is None

    def test_the_size_is_that_of_the_memory(self) -> None:
        """An admin who gives the cache 4 MB gets a process that grows by about as much."""
        size = 4 << 20
        tracemalloc.start()
        try:
            cache = Cache(size, ttl=60, negative_ttl=60)
            for number in range(8000):
                fields = [(f"field{i}", f"value{number}{i}") for i in range(4)]
                cache.keep(f"P1\tuser{number}@example.com", f"{{SHA256}}{number:050}", fields, success=True)
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert cache.statistics().evicted > 0
        assert size / 2 < grown < size * 1.5

    def test_a_flush_takes_masks(self) -> None:
        """Or everybody; it says how many entries that were."""
        cache = Cache(100_000, ttl=60, negative_ttl=60)
        for name in ("a@x", "b@x", "a@y", "odd\x01tname"):
            cache.keep(f"P1\t{name}\timap", "x", [], success=True)
            cache.keep_unknown(f"U1+m\t{name}")
        assert cache.flush(["a@x"]) == 2
        assert cache.flush(["?@*", "nobody"]) == 4
        assert cache.flush(["odd\tname"]) == 2
        cache.keep_unknown("P1\tc")
        assert (cache.flush(), cache.statistics().size) == (1, 0)

    def test_hits_and_misses_are_counted(self) -> None:
        """Too old is a miss."""
        clock = Clock()
        cache = Cache(100_000, ttl=10, negative_ttl=5, clock=clock)
        cache.find("P1\ta")
        cache.keep("P1\ta", "x", [], success=True)
        cache.find("P1\ta")
        clock.now += 11
        cache.find("P1\ta")
        assert cache.statistics()[:3] == (1, 2, 1)
        assert cache.any_age("P1\ta") is not None

    def test_an_entry_does_not_print_what_it_holds(self) -> None:
        """Its names say enough."""
        cache = Cache(100_000, ttl=10, negative_ttl=5)
        cache.keep("P1\ta", "{PLAIN}swordfish", [("pass", "swordfish")], success=True)
        assert repr(cache.any_age("P1\ta")) == "password pass"
