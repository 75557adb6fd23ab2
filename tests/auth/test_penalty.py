"""The penalty: who has to wait, how long, and who has not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.auth import Penalty, new_request
from authlua.auth.penalty import MAX_ADDRESSES
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.secret import Secret
from authlua.wishes import Sleep
from tests.auth.fakes import House

USERS: dict[str, Any] = {
    "t": {"password": "{PLAIN}pass"},
    "down": ScriptError("down"),
    "nodelay": {"password": "{PLAIN}pass", "nodelay": None},
}


class Clock:
    """Time that passes when somebody sleeps."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """A house with a penalty, whose clients come one after the other."""

    def __init__(self, dialect: Dialect = Dialect.V2_3) -> None:
        self.clock = Clock()
        self.penalty = Penalty(self.clock)
        self.house = House(USERS, dialect=dialect, penalty=self.penalty)

    def login(self, password: str, user: str = "t", **params: str | None) -> float:
        """How long the login was held back before it began."""
        params.setdefault("rip", "192.0.2.1")
        given = [(name.replace("_", "-"), value) for name, value in params.items()]
        request = new_request([("service", "imap"), *given], id=1, mech="PLAIN")
        core = self.house.auth.authenticate(request, Secret(f"\0{user}\0{password}".encode()), login=False)
        slept = 0.0
        try:
            while True:
                wish = core.send(None)
                assert isinstance(wish, Sleep)
                slept += wish.seconds
                self.clock.now += wish.seconds
        except StopIteration as done:
            self.clock.now += 2  # the failure delay
            self.reply: Ok | Fail = done.value
            return slept


def test_each_failure_makes_the_next_login_wait_longer() -> None:
    """As observed on Dovecot: 4, 8, 15, 15 seconds. A right password waits too, and ends it."""
    site = Site()
    assert [site.login(f"wrong{n}") for n in range(5)] == [0, 4, 8, 15, 15]
    assert site.login("pass") == 15
    assert isinstance(site.reply, Ok)
    assert site.login("pass") == 0


def test_the_same_mistake_does_not_count_twice() -> None:
    """A mail program that keeps trying an old password is no attack; the same password of another user is."""
    site = Site()
    assert [site.login("wrong") for _ in range(3)] == [0, 4, 4]
    assert [site.login("wrong", user) for user in ("a", "b", "c")] == [4, 8, 15]


def test_ten_mistakes_of_an_address_are_remembered() -> None:
    """The eleventh displaces the first, which then counts again."""
    clock = Clock()
    penalty = Penalty(clock)

    def counts(password: str) -> bool:
        clock.now += 1
        penalty.failed("192.0.2.1", 0, attempt(password))
        return penalty._records["192.0.2.1"].since == clock.now

    assert [counts(str(n)) for n in range(10)] == [True] * 10
    assert [counts(str(n)) for n in range(10)] == [False] * 10
    assert counts("eleventh")
    assert not counts("1")
    assert counts("0")


def test_a_refusal_of_a_mech_without_a_password_counts_each_time() -> None:
    """There is nothing to be compared."""
    penalty = Penalty(Clock())
    for level in range(3):
        request = attempt("x")
        request.password = None
        penalty.failed("192.0.2.1", level, request)
    assert penalty.level("192.0.2.1") == 3


def test_without_a_penalty_nobody_waits() -> None:
    """``penalty = false``."""
    house = House(USERS)
    for n in range(5):
        request = new_request([("service", "imap"), ("rip", "192.0.2.1")], id=1, mech="PLAIN")
        core = house.auth.authenticate(request, Secret(f"\0t\0wrong{n}".encode()), login=False)
        with pytest.raises(StopIteration):
            core.send(None)


def test_a_penalty_is_over_15_seconds_after_its_last_increase() -> None:
    """All of it at once."""
    site = Site()
    for n in range(3):
        site.login(f"wrong{n}")
    site.clock.now += 12.9
    assert site.penalty.level("192.0.2.1") == 3
    site.clock.now += 0.1
    assert site.login("wrong9") == 0
    assert site.login("wrong10") == 4


@pytest.mark.parametrize(
    ("params", "waits"),
    [
        ({"rip": "192.0.2.1"}, 4),
        ({"rip": "192.0.2.2"}, 0),
        ({"no_penalty": None}, 0),
        ({"rip": None}, 0),
        ({"rip": "::ffff:192.0.2.1"}, 4),
        ({"rip": "::ffff:192.0.2.2"}, 0),
    ],
)
def test_who_waits(params: dict[str, Any], waits: float) -> None:
    """The same address; never who says no-penalty or comes without an address."""
    site = Site()
    site.login("wrong")
    if params.get("rip", "") is None:
        site.login("other", rip=None)
    assert site.login("pass", **params) == waits


def test_an_ipv6_network_counts_as_one_address() -> None:
    """A /48, which is what one customer has."""
    site = Site()
    site.login("wrong", rip="2001:db8:1:2::3")
    assert site.login("wrong2", rip="2001:db8:1:ffff::1") == 4
    assert site.login("wrong", rip="2001:db8:2::1") == 0


@pytest.mark.parametrize("user", ["down", "nodelay"])
def test_some_failures_do_not_count(user: str) -> None:
    """Those that are ours, and those a passdb wants told at once."""
    site = Site(Dialect.V2_4)
    site.login("wrong", user)
    assert site.login("pass") == 0


def test_failures_at_the_same_time_count_once() -> None:
    """Each adds one to what it saw when it came, as in Dovecot."""
    penalty = Penalty(Clock())
    for n in range(5):
        penalty.failed("192.0.2.1", 0, attempt(str(n)))
    assert penalty.level("192.0.2.1") == 1


def attempt(password: str) -> AuthRequest:
    request = AuthRequest("imap")
    request.user = "t"
    request.password = Secret(password.encode())
    return request


def test_addresses_are_forgotten() -> None:
    """A flood of addresses fills no memory: the oldest go when there are too many, and all after half a minute."""
    clock = Clock()
    penalty = Penalty(clock)
    for n in range(MAX_ADDRESSES + 10):
        penalty.failed(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 0, attempt("x"))
    assert len(penalty) == MAX_ADDRESSES
    clock.now += 30
    penalty.failed("192.0.2.1", 0, attempt("x"))
    assert len(penalty) == 1


@given(st.ip_addresses().map(str), st.lists(st.sampled_from(["fail", "ok", "wait"]), max_size=20))
def test_the_level_stays_in_bounds(ip: str, events: list[str]) -> None:
    """Whatever happens, and from wherever."""
    clock = Clock()
    penalty = Penalty(clock)
    for number, event in enumerate(events):
        if event == "fail":
            penalty.failed(ip, penalty.level(ip), attempt(str(number)))
        elif event == "ok":
            penalty.succeeded(ip)
        else:
            clock.now += 7
        assert 0 <= penalty.level(ip) <= 4
