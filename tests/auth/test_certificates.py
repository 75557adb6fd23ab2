"""Clients that show a certificate: who has verified it, and what a passdb may say of its fingerprint (2.4.2 and later).

The rules are those of ``core:2.4.4:src/auth/auth-request.c:auth_request_validate_client_fp`` and
``auth_request_passdb_lookup_end``.
"""

import pytest

from authlua.auth import new_request
from authlua.dialect import Dialect
from authlua.protocol import Fail, Ok
from authlua.request import VARIABLES_2_4
from authlua.secret import Secret
from tests.auth.fakes import House, run

SHOWN = {"secured": "tls", "ssl_client_cert_fp": "AA:BB", "ssl_client_cert_pubkey_fp": "CC:DD"}


def login(
    field: dict[str, str], params: dict[str, str], *, dialect: Dialect = Dialect.V2_4, required: bool = False
) -> Ok | Fail:
    house = House(
        {"t": {"password": "{PLAIN}pass", **field}},
        dialect=dialect,
        ssl_require_client_cert=required,
        verbose=True,
    )
    request = new_request([("service", "imap"), *params.items()], id=1, mech="PLAIN")
    reply: Ok | Fail = run(house.auth.authenticate(request, Secret(b"\0t\0pass"), login=False))
    assert (VARIABLES_2_4["cert"](request) == "valid") == request.valid_client_cert
    return reply


@pytest.mark.parametrize(
    ("field", "fits"),
    [
        ({"check_client_fp": "AA:BB"}, True),
        ({"check_client_fp": "CC:DD"}, True),
        ({"check_client_fp": "aa:bb"}, False),
        ({"check_client_fp": ""}, False),
        ({"check_client_cert_fp": "AA:BB"}, True),
        ({"check_client_cert_fp": "CC:DD"}, False),
        ({"check_client_pubkey_fp": "CC:DD"}, True),
        ({"check_client_pubkey_fp": "AA:BB"}, False),
    ],
)
def test_a_fingerprint_must_be_that_of_the_certificate(field: dict[str, str], fits: bool) -> None:
    """Or of its key, as the field's name says; the field itself is not sent."""
    assert login(field, SHOWN) == (Ok(1, "t", []) if fits else Fail(1, [("user", "t")], delay=True))
    assert isinstance(login(field, SHOWN, required=True), Ok) == fits


def test_a_fingerprint_counts_on_tls_alone() -> None:
    """What a proxy or nobody has secured shows no certificate of the client's."""
    field = {"check_client_fp": "AA:BB"}
    assert isinstance(login(field, {**SHOWN, "secured": ""}), Fail)
    assert isinstance(login(field, {"secured": "tls"}), Fail)


def test_where_a_certificate_is_required_somebody_must_know_it() -> None:
    """The client process, or a passdb: one that merely was shown is not enough."""
    assert isinstance(login({}, {**SHOWN, "valid-client-cert": ""}, required=True), Ok)
    assert isinstance(login({}, SHOWN, required=True), Fail)
    nothing = login({"check_client_fp": "AA:BB"}, {"secured": "tls"}, required=True)
    assert nothing == Fail(1, [("reason", "Client didn't present valid SSL certificate")])


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("name", [{}, {"cert_username": ""}, {"cert_username": "carol"}])
def test_a_certificate_without_a_name_is_not_enough(dialect: Dialect, name: dict[str, str]) -> None:
    """Where names come from certificates, and one is required; it is refused at once."""
    house = House(
        {"carol": {"nopassword": None}}, dialect=dialect, ssl_require_client_cert=True, ssl_username_from_cert=True
    )
    params = [("service", "imap"), ("valid-client-cert", None), *name.items()]
    request = new_request(params, id=1, mech="PLAIN")
    reply = run(house.auth.authenticate(request, Secret(b"\0t\0pass"), login=False))
    if name.get("cert_username"):
        assert reply == Ok(1, "carol", [("original_user", "t")])
    else:
        assert reply == Fail(1, [("reason", "SSL certificate didn't contain username")])
        assert house.passdbs[0].asked == []


@pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4_0])
def test_earlier_releases_know_nothing_of_fingerprints(dialect: Dialect) -> None:
    """Such a field means as little to them as any other."""
    assert isinstance(login({"check_client_fp": "x"}, SHOWN, dialect=dialect), Ok)
    assert isinstance(login({"check_client_fp": "AA:BB"}, SHOWN, dialect=dialect, required=True), Fail)
