"""Passwords that another IMAP server judges: what its answer means to a real Dovecot, it means here."""

import pytest

from tests.differential.servers import DOVECOTS, AuthClient, Authlua
from tests.reference.dovecot import why_not
from tests.services.imap_server import ANSWERS, ImapServer

DATABASES = {
    "2.3": "passdb {{\n  driver = imap\n  args = host=127.0.0.1 port={port} username=%u\n}}\n",
    "2.4": "passdb imap {{\n  imapc_host = 127.0.0.1\n  imapc_port = {port}\n  imapc_user = %{{user}}\n}}\n",
}

AUTHLUA = """
[auth]
failure_delay = 0
internal_failure_delay = 0
penalty = false
[[passdb]]
driver = "imap"
host = "127.0.0.1"
port = {port}
[[userdb]]
driver = "static"
allow_all_users = true
"""

BETTER = {
    **{user: f"FAIL\tuser={user}" for user in ("no", "wrong", "small", "other", "stray")},
    "expired": "FAIL\tuser=expired\tcode=pass_expired\treason=Password expired",
}
"""What 2.3.19.1 and 2.4.1 take for failures: their IMAP client has a word of its own for a NO to a login, which their
passdb does not expect."""

USERS = [user for user in ANSWERS if user != "silence"]


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
def test_the_verdicts_are_the_same(series: str) -> None:
    """Whatever a server may answer to a login."""
    if reason := why_not(series):
        pytest.skip(reason)
    attempts = [(user, 'a "secret" \\', "") for user in USERS]
    settings: dict[str, str | int] = {"auth_failure_delay": 0}
    settings |= {} if series == "2.3" else {"auth_internal_failure_delay": 0}
    with ImapServer() as theirs:
        databases = DATABASES[series].format(port=theirs.port)
        with DOVECOTS[series]("", databases=databases, **settings) as dovecot, AuthClient(dovecot) as client:
            expected = dict(zip(USERS, client.login_all(attempts), strict=True))
            log = dovecot.log()
    with ImapServer() as ours, Authlua(AUTHLUA.format(port=ours.port), dialect=series, files={}) as server:
        with AuthClient(server) as client:
            got = dict(zip(USERS, client.login_all(attempts), strict=True))
        log += server.log()
    assert got == {**expected, **BETTER}, log
    assert set(ours.logins) == set(theirs.logins)
