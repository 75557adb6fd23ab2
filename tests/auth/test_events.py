"""Dovecot's events: which there are, in which order, and what each says."""

from typing import Any

import pytest

from authlua.auth import CacheKey, Event, about_request, new_request
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.request import AuthRequest
from authlua.results import PassdbResult, UserdbResult
from authlua.secret import Secret
from authlua.variables import compile_template
from tests.auth.fakes import House, run

PASS = {"password": "{PLAIN}pass"}


class Observer:
    """What was observed."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, str]]] = []

    def __call__(self, event: Event, request: AuthRequest | None, seconds: float) -> None:
        assert seconds >= 0
        assert (seconds == 0) == event.name.endswith("_started")
        self.events.append((event.name, dict(event.fields)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


def login(house: House, user: str, password: str = "pass", **params: str) -> AuthRequest:
    request = new_request([("service", "imap"), *params.items()], id=1, mech="PLAIN")
    run(house.auth.authenticate(request, Secret(f"\0{user}\0{password}".encode()), login=True))
    return request


@pytest.mark.parametrize("dialect", list(Dialect))
def test_each_database_is_named_as_the_release_names_it(dialect: Dialect) -> None:
    """2.3 by its driver, with the name beside it; 2.4 by its name, with the driver beside it."""
    seen = Observer()
    house = House({"t": PASS}, userdbs=[{"t": {}}], placed=[{"name": "sql"}], dialect=dialect, observe=seen)
    run(house.auth.fetch_login(login(house, "t"), 2, wants_token=False))
    is_2_3 = dialect is Dialect.V2_3
    passdb = {"passdb": "lua", "passdb_name": "sql"} if is_2_3 else {"passdb": "sql", "passdb_driver": "lua"}
    userdb = {"userdb": "lua", "userdb_name" if is_2_3 else "userdb_driver": "lua"}
    assert seen.events == [
        ("auth_passdb_request_started", {**passdb, "passdb_id": "1"}),
        ("auth_passdb_request_finished", {**passdb, "passdb_id": "1", "result": "ok"}),
        ("auth_userdb_request_started", {**userdb, "userdb_id": "1"}),
        ("auth_userdb_request_finished", {**userdb, "userdb_id": "1", "result": "ok"}),
    ]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (PASS, "ok"),
        ({"password": "{PLAIN}other"}, "password_mismatch"),
        ({"noauthenticate": None}, "next"),
        (ScriptError("down"), "internal_failure"),
        *((result, result.name.lower()) for result in PassdbResult if result is not PassdbResult.OK),
    ],
)
def test_the_result_is_the_passdbs_own(answer: Any, result: str) -> None:
    """In Dovecot's words."""
    seen = Observer()
    login(House({"t": answer}, observe=seen), "t")
    assert seen.events[1][1]["result"] == result


def test_what_the_chain_makes_of_the_result_is_no_part_of_it() -> None:
    """Neither a rule, nor a deny passdb, nor a field that spoils the lookup."""
    seen = Observer()
    login(House({"t": {**PASS, "allow_nets": "192.0.2.1"}}, observe=seen), "t", rip="192.0.2.2")
    login(House({"t": PASS}, placed=[{"result_success": "return-fail"}], observe=seen), "t")
    assert [fields["result"] for name, fields in seen.events if name.endswith("_finished")] == ["ok"] * 2


def test_each_passdb_of_a_chain_has_its_events() -> None:
    """Those that are passed over have none."""
    seen = Observer()
    house = House({}, {"t": PASS}, {"t": PASS}, placed=[{}, {"skip": "authenticated"}, {}], observe=seen)
    login(house, "t")
    assert [(name.rpartition("_")[2], fields["passdb_id"]) for name, fields in seen.events] == [
        ("started", "1"),
        ("finished", "1"),
        ("started", "2"),
        ("finished", "2"),
    ]


def test_the_cache_is_named_where_it_was_asked() -> None:
    """And nowhere else."""
    seen = Observer()

    def key(kind: str) -> CacheKey | None:
        return CacheKey.of_template(kind, 1, compile_template("%u", Dialect.V2_3), Dialect.V2_3)

    house = House(
        {"t": PASS},
        userdbs=[{"t": {}}],
        placed=[{"cache_key": key("P")}],
        userdb_key=key("U"),
        cache_size=1 << 20,
        observe=seen,
    )
    for _ in range(2):
        run(house.auth.fetch_login(login(house, "t"), 2, wants_token=False))
    assert [fields.get("cache") for _, fields in seen.events] == [None, "miss"] * 2 + [None, "hit"] * 2
    seen.events.clear()
    login(House({"t": PASS}, cache_size=1 << 20, observe=seen), "t")
    assert "cache" not in seen.events[1][1]


@pytest.mark.parametrize(
    ("answer", "result"),
    [({}, "ok"), (UserdbResult.USER_UNKNOWN, "user_unknown"), (ScriptError("down"), "internal_failure")],
)
def test_a_userdbs_result(answer: Any, result: str) -> None:
    """There are three."""
    seen = Observer()
    run(House(userdbs=[{"t": answer}], observe=seen).auth.lookup_user(new_request([], id=1), "t"))
    assert seen.events[1][1]["result"] == result


def test_listing_users_has_the_events_of_a_userdb() -> None:
    """One pair for each userdb that is listed."""
    seen = Observer()
    listing = House(userdbs=[{"a": {}}, {"b": {}}], observe=seen).auth.list_users()
    while run(listing.piece()):
        pass
    pair = ["auth_userdb_request_started", "auth_userdb_request_finished"]
    assert seen.names == pair * 2
    assert [fields["userdb_id"] for _, fields in seen.events] == ["1", "1", "2", "2"]


FIELDS: dict[str, Any] = {
    "user": "to@x",
    "original_user": "Admin",
    "translated_user": "to@x",
    "login_user": None,
    "master_user": "admin",
    "mechanism": "PLAIN",
    "session": "s1",
    "client_id": "id",
    "local_name": "sni.example",
    "local_ip": "192.0.2.1",
    "local_port": 143,
    "remote_ip": "192.0.2.2",
    "remote_port": 4000,
    "real_local_ip": "192.0.2.3",
    "real_local_port": 993,
    "real_remote_ip": "192.0.2.4",
    "real_remote_port": 5000,
    "realm": None,
}


@pytest.mark.parametrize("dialect", list(Dialect))
def test_every_event_knows_its_request(dialect: Dialect) -> None:
    """With all that section 14 of the reference names."""
    house = House({"admin": PASS}, placed=[{"master": True}], master_user_separator="*", username_format="%Lu")
    params = {
        "session": "s1",
        "client_id": "id",
        "local_name": "sni.example",
        **{"lip": "192.0.2.1", "lport": "143", "rip": "192.0.2.2", "rport": "4000"},
        **{"real_lip": "192.0.2.3", "real_lport": "993", "real_rip": "192.0.2.4", "real_rport": "5000"},
    }
    request = login(house, "to@x*Admin", **params)
    service = "service" if dialect is Dialect.V2_3 else "protocol"
    assert about_request(request, dialect) == {**FIELDS, service: "imap", "transport": "insecure"}


@pytest.mark.parametrize(
    ("secured", "old", "new"),
    [({}, "insecure", "insecure"), ({"secured": "tls"}, "TLS", "TLS"), ({"secured": ""}, "trusted", "secured")],
)
def test_how_safe_the_transport_is_has_other_words_in_2_4(secured: dict[str, str], old: str, new: str) -> None:
    """One of them."""
    request = new_request([("service", "imap"), *secured.items()], id=1, mech="PLAIN")
    told = [about_request(request, dialect)["transport"] for dialect in (Dialect.V2_3, Dialect.V2_4)]
    assert told == [old, new]
