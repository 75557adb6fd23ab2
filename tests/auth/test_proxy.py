"""Where a client is proxied to: names become addresses, and whoever would be sent to ourselves stays (section 6.1).

What needs no name to be looked up, tests/differential/test_fields.py asks Dovecot.
"""

import ipaddress
import time
from typing import Any

import pytest

from authlua.auth import new_request
from authlua.dialect import Dialect
from authlua.protocol import Fail, Ok
from authlua.secret import Secret
from authlua.services import fulfil
from authlua.wishes import Service
from tests.auth.fakes import House

SENT = {"proxy": "y", "host": "mail.example", "port": "143"}


def login(
    house: House, resolved: str | OSError, *, login: bool = True, **more: str
) -> tuple[Ok | Fail, list[tuple[str, float]]]:
    """The reply when the name of the host is *resolved* so, and which names were looked up for how long."""
    params = [("service", "imap"), ("lip", "192.0.2.1"), ("lport", "143"), ("rip", "192.0.2.7"), *more.items()]
    request = new_request(params, id=1, mech="PLAIN")
    core = house.auth.authenticate(request, Secret(b"\0t\0pass"), login=login)
    names: list[tuple[str, float]] = []
    try:
        wish = core.send(None)
        while True:
            assert isinstance(wish, Service)
            assert wish.name == "dns"
            names.append(wish.arguments)
            wish = core.send((str(resolved), -2, []) if isinstance(resolved, OSError) else ("", 0, [resolved, "::1"]))
    except StopIteration as done:
        return done.value, names


def house(fields: dict[str, str], **options: Any) -> House:
    return House({"t": {"password": "{PLAIN}pass", **fields}}, **options)


def test_the_address_of_a_name_goes_along() -> None:
    """So that the login process looks up nothing."""
    reply, names = login(house(SENT), "192.0.2.9")
    assert dict(reply.fields)["hostip"] == "192.0.2.9"
    assert names == [("mail.example", 10)]


@pytest.mark.parametrize("dialect", list(Dialect))
def test_an_address_that_is_none_is_a_temporary_failure(dialect: Dialect) -> None:
    """The user did nothing wrong; nothing of the proxy's is told, nor the password."""
    site = house({**SENT, "hostip": "192.0.2"}, dialect=dialect)
    reply, names = login(site, OSError("never"))
    assert isinstance(reply, Fail)
    assert dict(reply.fields).items() >= {"user": "t", "code": "temp_fail"}.items()
    assert not dict(reply.fields).keys() & {"proxy", "host", "port", "pass"}
    assert names == []
    assert site.log == [("error", "hostip is not an IP address: 192.0.2")]


@pytest.mark.parametrize(("value", "seconds"), [("30", 30), ("soon", 10), ("", 10)])
def test_the_passdb_says_how_long_a_name_may_take(value: str, seconds: float) -> None:
    """``proxy_timeout``; without one, ten seconds."""
    assert login(house({**SENT, "proxy_timeout": value}), "192.0.2.9")[1] == [("mail.example", seconds)]


def test_a_name_that_takes_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than half a second."""
    for started, log in ((0.4, []), (0.6, [("warning", "DNS lookup for mail.example took 0.600 s")])):
        clock = iter([0.0, started])
        monkeypatch.setattr(time, "perf_counter", lambda clock=clock: next(clock))
        site = house(SENT)
        login(site, "192.0.2.9")
        assert site.log == log


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_name_without_an_address_is_a_temporary_failure(dialect: Dialect) -> None:
    """Without any field of the proxy's, nor the password."""
    site = house(SENT, dialect=dialect)
    reply, _ = login(site, OSError("no such host"))
    assert isinstance(reply, Fail)
    assert dict(reply.fields) == {"user": "t", "code": "temp_fail"}
    assert ("error", "DNS lookup for mail.example failed: no such host") in site.log


def test_an_address_is_looked_up_by_nobody() -> None:
    """Neither is a host whose address the passdb knows."""
    for more in ({"host": "192.0.2.9"}, {"hostip": "192.0.2.9"}):
        assert login(house({**SENT, **more}), OSError("never"))[1] == []


@pytest.mark.parametrize(
    ("ip", "port", "us", "stays"),
    [
        ("192.0.2.1", "143", (), True),
        ("192.0.2.1", "144", (), False),
        ("192.0.2.9", "143", (), False),
        ("192.0.2.9", "143", ("192.0.2.8", "192.0.2.9"), True),
    ],
)
def test_who_would_be_sent_to_us_stays(ip: str, port: str, us: tuple[str, ...], stays: bool) -> None:
    """By the address the client has connected to, or one of ``proxy_self``; with the same port."""
    reply, _ = login(house({"proxy_maybe": "y", "host": "mail.example", "port": port}, proxy_self=us), ip)
    assert ("proxy" in dict(reply.fields)) == (not stays)
    assert ("host" in dict(reply.fields)) == (not stays)


@pytest.mark.parametrize(("host", "stays"), [("192.0.2.1", False), ("198.51.100.1", True)])
def test_in_front_of_a_proxy_we_are_what_the_client_has_connected_to(host: str, stays: bool) -> None:
    """``real_lip``, and the port behind it."""
    sent = house({"proxy_maybe": "y", "host": host, "port": "143"})
    reply, _ = login(sent, OSError("never"), real_lip="198.51.100.1", real_lport="993")
    assert ("proxy" in dict(reply.fields)) == (not stays)


def test_a_socket_that_only_authenticates_proxies_nobody() -> None:
    """An SMTP server is told what the passdb says."""
    reply, names = login(house(SENT), OSError("never"), login=False)
    assert isinstance(reply, Ok)
    assert names == []
    assert dict(reply.fields) == {**SENT, "proxy": None}


async def test_the_real_resolver_gives_an_address() -> None:
    """Of the machine itself; a name that there is not is told as such."""
    problem, _, addresses = await fulfil(Service("dns", ("localhost", 10.0)))
    assert problem == ""
    assert ipaddress.ip_address(addresses[0]).is_loopback
    assert (await fulfil(Service("dns", ("\udcff", 10.0))))[0] != ""
