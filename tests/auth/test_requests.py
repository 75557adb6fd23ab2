"""What a client says of a login beside its response, parameter by parameter."""

from typing import Any

import pytest

from authlua.auth import new_request
from authlua.dialect import Dialect
from authlua.protocol import Fail, Ok, Params
from authlua.request import VARIABLES_2_3, VARIABLES_2_4, AuthRequest
from authlua.secret import Secret
from tests.auth.fakes import House, run

HERE = {"lip": "192.0.2.1", "rip": "192.0.2.2", "lport": "143", "rport": "4000"}


def said(*params: tuple[str, str | None], mech: str = "PLAIN", dialect: Dialect = Dialect.V2_4) -> AuthRequest:
    return new_request([("service", "imap"), *params], id=1, mech=mech, dialect=dialect)


def login(house: House, *params: tuple[str, str | None]) -> tuple[AuthRequest, Ok | Fail]:
    request = said(*params)
    return request, run(house.auth.authenticate(request, Secret(b"\0t\0pass"), login=False))


@pytest.mark.parametrize(
    ("name", "value", "old", "new"),
    [
        ("lip", "192.0.2.1", "lip", "local_ip"),
        ("rip", "2001:DB8:0::1", "rip", "remote_ip"),
        ("lport", "143", "lport", "local_port"),
        ("rport", "65535", "rport", "remote_port"),
        ("real_lip", "192.0.2.3", "real_lip", "real_local_ip"),
        ("real_rip", "192.0.2.4", "real_rip", "real_remote_ip"),
        ("real_lport", "993", "real_lport", "real_local_port"),
        ("real_rport", "5000", "real_rport", "real_remote_port"),
        ("local_name", "mail.example", "local_name", "local_name"),
        ("session", "s1", "session", "session"),
        ("client_id", "name a\tversion 1", "client_id", "client_id"),
        ("ssl_ja3_hash", "e7d7", None, "ssl_ja3_hash"),
        ("ssl_client_cert_fp", "AA:BB", None, "ssl_client_cert_fp"),
        ("ssl_client_cert_pubkey_fp", "CC:DD", None, "ssl_client_cert_pubkey_fp"),
    ],
)
def test_each_parameter_has_its_variable(name: str, value: str, old: str | None, new: str) -> None:
    """In the words of each release; those of TLS came with 2.4."""
    request = said((name, value))
    expected = value.lower().replace(":0::", "::") if name == "rip" else value
    assert VARIABLES_2_4[new](request) == expected
    if old is None:
        assert new not in VARIABLES_2_3
    else:
        assert VARIABLES_2_3[old](request) == expected


@pytest.mark.parametrize(
    ("params", "real"),
    [
        ([*HERE.items()], [*HERE.values()]),
        ([("real_rip", "198.51.100.1"), *HERE.items()], ["192.0.2.1", "198.51.100.1", "143", "4000"]),
        ([*HERE.items(), ("real_rip", "198.51.100.1")], ["192.0.2.1", "198.51.100.1", "143", "4000"]),
        ([*HERE.items(), ("rip", "198.51.100.1"), ("lport", "993")], [*HERE.values()]),
        ([("rip", "nonsense"), *HERE.items(), ("rip", "198.51.100.1")], [*HERE.values()]),
    ],
)
def test_who_does_not_say_what_is_real_means_the_first(params: Params, real: list[str]) -> None:
    """Of addresses and ports; the last of each is the one that counts otherwise."""
    request = said(*params)
    names = ("real_lip", "real_rip", "real_lport", "real_rport")
    assert [VARIABLES_2_3[name](request) for name in names] == real
    assert (request.rip, request.lport) == (dict(params)["rip"], int(dict(params)["lport"] or 0))


@pytest.mark.parametrize("bad", ["nonsense", "", "192.0.2.1 x", "192.0.2.256", "2001::db8::1", None])
def test_an_address_that_is_none_is_passed_over(bad: str | None) -> None:
    """As if nothing had been said; one that was said before stays."""
    assert said(("rip", bad), ("real_lip", bad)).rip is None
    assert said(("rip", "192.0.2.2"), ("rip", bad)).rip == "192.0.2.2"


@pytest.mark.parametrize("bad", ["65536", "-1", "x", "", None, "٣"])
def test_a_port_that_is_none_is_passed_over(bad: str | None) -> None:
    """Likewise."""
    assert said(("lport", bad)).lport == 0
    assert said(("lport", "143"), ("lport", bad)).lport == 143


def test_what_nobody_knows_is_passed_over() -> None:
    """A newer client may say more than an older server understands."""
    request, reply = login(House({"t": {"password": "{PLAIN}pass"}}), ("brand-new", "x"), ("", None))
    assert reply == Ok(1, "t", [])
    assert list(request.passdb_fields) == []


@pytest.mark.parametrize(
    ("params", "value"),
    [([], ""), ([("secured", None)], "secured"), ([("secured", "")], "secured"), ([("secured", "tls")], "TLS")],
)
def test_how_safe_the_client_is(params: Params, value: str) -> None:
    """Three words; a certificate that was verified has one of its own."""
    for variables in (VARIABLES_2_3, VARIABLES_2_4):
        assert variables["secured"](said(*params)) == value
        assert variables["cert"](said(*params)) == ""
        assert variables["cert"](said(*params, ("valid-client-cert", None))) == "valid"


def test_a_request_may_ask_to_be_debugged() -> None:
    """Each of its steps is in the log then, and those of no other."""
    house = House({"t": {"nopassword": None}})
    login(house)
    assert house.log == []
    login(house, ("debug", None))
    assert house.log == [("debug", "Allowing any password")]


@pytest.mark.parametrize(
    ("dialect", "without"), [(Dialect.V2_3, ("forward_b", None)), (Dialect.V2_4, ("forward_b", "yes"))]
)
def test_what_was_forwarded_is_a_passdb_field(dialect: Dialect, without: Any) -> None:
    """All of it, also what has no value (seen of 2.3.19 and 2.4.1), and with a tab in a value; no passdb's failure
    takes it back.
    """
    house = House({"t": {"password": "{PLAIN}x", "forward_a": "lost"}}, {}, dialect=dialect)
    request = said(("forward_fields", "a=1\tb\tc=x\x01ty"), ("forward_fields", "d=4"), dialect=dialect)
    reply = run(house.auth.authenticate(request, Secret(b"\0t\0pass"), login=False))
    forwarded = [("forward_a", "1"), without, ("forward_c", "x\ty"), ("forward_d", "4")]
    assert reply == Fail(1, [("user", "t"), *forwarded], delay=True)


@pytest.mark.parametrize(
    ("trusted", "name", "user"), [(True, "alice", "alice"), (True, "", "t"), (True, None, "t"), (False, "alice", "t")]
)
def test_the_name_in_a_certificate_counts_where_it_may(trusted: bool, name: str | None, user: str) -> None:
    """With ssl_username_from_cert, and unless it is empty."""
    users: Any = {"alice": {"nopassword": None}, "t": {"nopassword": None}}
    request, reply = login(House(users, ssl_username_from_cert=trusted), ("cert_username", name))
    assert (request.user, request.original_user) == (user, "t")
    assert isinstance(reply, Ok)


def test_a_lookup_has_no_client() -> None:
    """What only a login may say means nothing in one without."""
    params = [(name, "x") for name in ("secured", "final-resp-ok", "no-penalty", "valid-client-cert", "cert_username")]
    lookup, attempt = said(*params, mech=""), said(*params)
    for request, counts in ((lookup, False), (attempt, True)):
        assert bool(request.secured) == request.final_resp_ok == request.no_penalty == counts
        assert request.valid_client_cert == (request.cert_username is not None) == counts
