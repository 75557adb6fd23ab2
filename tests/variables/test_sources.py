"""Where the variables of an auth request come from."""

import os
import re
import time
from collections.abc import Callable
from functools import partial

import pytest

from authlua.dialect import Dialect
from authlua.fields import Fields
from authlua.request import VARIABLES_2_3, VARIABLES_2_4, AuthRequest
from authlua.secret import Secret
from authlua.variables import ExpansionError, compile_template, request_variables


@pytest.fixture
def request_() -> AuthRequest:
    request = AuthRequest("imap", mech="PLAIN")
    request.user = request.original_user = "Joe@Example.org"
    request.password = Secret(b"hunter2")
    request.passdb_fields = Fields([("plan", "gold"), ("nodelay", None)])
    return request


@pytest.mark.parametrize(
    ("dialect", "names"),
    [(Dialect.V2_3, VARIABLES_2_3), (Dialect.V2_4_0, VARIABLES_2_4), (Dialect.V2_4, VARIABLES_2_4)],
)
def test_every_variable_of_the_request_is_there(dialect: Dialect, names: dict, request_: AuthRequest) -> None:
    """And is what the request says."""
    variables = request_variables(request_, dialect)
    for name, variable in names.items():
        assert variables.lookup(name) == variable(request_)


def test_the_id_of_the_database_has_its_name(request_: AuthRequest) -> None:
    """``%!`` in 2.3 and ``%{id}`` in 2.4, each only there."""
    assert compile_template("%!/%{id}", Dialect.V2_3).expand(request_variables(request_, Dialect.V2_3, id="7")) == (
        "7/UNSUPPORTED_VARIABLE_id"
    )
    assert (
        compile_template("%!/%{id}", Dialect.V2_4).expand(request_variables(request_, Dialect.V2_4, id="7")) == "%!/7"
    )


def test_variables_follow_the_request(request_: AuthRequest) -> None:
    """Nothing is remembered between two expansions."""
    variables = request_variables(request_, Dialect.V2_3)
    template = compile_template("%Lu", Dialect.V2_3)
    assert template.expand(variables) == "joe@example.org"
    request_.user = "TIM"
    assert template.expand(variables) == "tim"


@pytest.mark.parametrize(
    ("name", "value"),
    [("passdb:plan", "gold"), ("passdb:nodelay", ""), ("passdb:nosuch", None), ("userdb:uid", None)],
)
def test_extra_fields_are_there(name: str, value: str | None, request_: AuthRequest) -> None:
    """A field without a value is not a missing field."""
    for dialect in Dialect:
        assert request_variables(request_, dialect).lookup(name) == value


def test_userdb_fields_come_with_the_userdb_reply(request_: AuthRequest) -> None:
    """Until something starts it there are none."""
    request_.userdb_fields = Fields([("uid", "1000")])
    assert request_variables(request_, Dialect.V2_4).lookup("userdb:uid") == "1000"


@pytest.mark.parametrize("name", ["nosuch", "nosuch:x", "user:x", "", ":"])
def test_an_unknown_name_is_a_key_error(name: str, request_: AuthRequest) -> None:
    """Each grammar makes of it what it does."""
    for dialect in Dialect:
        with pytest.raises(KeyError):
            request_variables(request_, dialect).lookup(name)


def test_the_environment_is_the_one_that_was_handed_in(request_: AuthRequest) -> None:
    """Or that of the process."""
    assert request_variables(request_, Dialect.V2_3, environ={"A": "b"}).lookup("env:A") == "b"
    assert request_variables(request_, Dialect.V2_4, environ={}).lookup("env:PATH") is None
    assert request_variables(request_, Dialect.V2_4).lookup("env:PATH") == os.environ["PATH"]


PATTERNS = {
    "process:pid": str(os.getpid()),
    "process:uid": r"\d+",
    "process:gid": r"\d+",
    "system:hostname": r".+",
    "system:cpu_count": r"\d+",
    "system:os": r"\w+",
    "system:os-version": r".+",
    "dovecot:version": r"2\.4\.\d+",
    "dovecot:revision": "authlua",
    "date:year": r"\d{4}",
    "date:month": r"\d\d",
    "date:day": r"\d\d",
    "time:hour": r"\d\d",
    "time:min": r"\d\d",
    "time:minute": r"\d\d",
    "time:sec": r"\d\d",
    "time:second": r"\d\d",
    "time:us": r"\d{1,6}",
    "time:usec": r"\d{1,6}",
    "time:unix": r"\d{10}\.\d{9}",
    "generate:guid": r"[0-9a-f]{16}\.[0-9a-f]+\..+",
    "generate:guid128": r"[0-9a-f]{32}",
    "generate:uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "generate:uuid:record": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "generate:uuid:compact": r"[0-9a-f]{32}",
    "generate:uuid:microsoft": r"\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}",
}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_provider_of_2_4_has_the_form_dovecot_gives_it(name: str, request_: AuthRequest) -> None:
    """For values that no recording can hold."""
    value = compile_template(f"%{{{name}}}", Dialect.V2_4).expand(request_variables(request_, Dialect.V2_4))
    assert re.fullmatch(PATTERNS[name], value)
    with pytest.raises(KeyError):
        request_variables(request_, Dialect.V2_3).lookup(name)


def test_the_clock_is_local(request_: AuthRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day and an hour are those of the time zone."""
    names = ("date:year", "date:month", "date:day", "time:hour")
    variables = request_variables(request_, Dialect.V2_4)

    def told(zone: str) -> list[str | None]:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        return [variables.lookup(name) for name in names]

    try:
        monkeypatch.setattr(time, "strftime", partial(_at, 1735689599))  # a second before 2025 in UTC
        assert told("UTC") == ["2024", "12", "31", "23"]
        assert told("CET-1") == ["2025", "01", "01", "00"]
    finally:
        monkeypatch.undo()
        time.tzset()


def _at(second: int, format: str, *, strftime: Callable[..., str] = time.strftime) -> str:
    return strftime(format, time.localtime(second))


def test_the_host_has_a_name_in_2_3(request_: AuthRequest) -> None:
    """Beside uid and gid, which a recording holds."""
    text = compile_template("%{hostname}", Dialect.V2_3).expand(request_variables(request_, Dialect.V2_3))
    assert text == os.uname().nodename


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%u", "%{user}"),
        ("%n", "%{user | username}"),
        ("%d", "%{user | domain}"),
        ("%s", "%{protocol}"),
        ("%r", "%{remote_ip}"),
        ("%l", "%{local_ip}"),
        ("%w", "%{password}"),
        ("%Lu", "%{user | lower}"),
        ("%{if;%{user};eq;Joe@Example.org;x;y}", "%{user | if('eq', 'Joe@Example.org', 'x', 'y')}"),
        ("%{if;%{user};eq;b;x;y}", "%{user | if('eq', 'b', 'x', 'y')}"),
        ("%{sha256:user}", "%{user | sha256}"),
        ("%{passdb:plan:d}", "%{passdb:plan | default('d')}"),
        ("%{passdb:nosuch:d}", "%{passdb:nosuch | default('d')}"),
    ],
)
def test_what_2_3_says_2_4_says_otherwise(old: str, new: str, request_: AuthRequest) -> None:
    """The same text of two templates."""
    asked = AuthRequest("imap", mech="PLAIN", params={"rip": "192.0.2.7", "lip": "192.0.2.1"})
    asked.user, asked.password, asked.passdb_fields = request_.user, request_.password, request_.passdb_fields
    said = compile_template(old, Dialect.V2_3).expand(request_variables(asked, Dialect.V2_3))
    assert said == compile_template(new, Dialect.V2_4).expand(request_variables(asked, Dialect.V2_4))
    assert said


def test_what_is_generated_differs_each_time(request_: AuthRequest) -> None:
    """That is what it is for."""
    variables = request_variables(request_, Dialect.V2_4)
    for name in PATTERNS:
        if name.startswith("generate:"):
            assert variables.lookup(name) != variables.lookup(name)


def test_the_number_of_processors_may_be_set(request_: AuthRequest) -> None:
    """The variable NCPU wins."""
    assert request_variables(request_, Dialect.V2_4, environ={"NCPU": "64"}).lookup("system:cpu_count") == "64"


def test_a_field_an_event_does_not_have_is_an_error(request_: AuthRequest) -> None:
    """With the words of Dovecot; a field that is empty counts as absent."""
    variables = request_variables(request_, Dialect.V2_4)
    assert variables.lookup("event:user") == "Joe@Example.org"
    for field in ("nosuch", "session"):
        with pytest.raises(ExpansionError, match=f"^event: No such field '{field}' in event$"):
            variables.lookup(f"event:{field}")
