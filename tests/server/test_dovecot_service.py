"""Reading what Dovecot's master says to its auth service; the service itself is tested end to end."""

import pytest

from authlua.errors import ConfigError
from authlua.server.dovecot import read_service

COMMON = {"SOCKET_COUNT": "3", "GENERATION": "7", "CLIENT_LIMIT": "512"}


def test_2_3_names_its_listeners() -> None:
    """The kind is in the name, and the first descriptor is 7."""
    service = read_service(
        {
            **COMMON,
            "SOCKET0_SETTINGS": "login/login",
            "SOCKET1_SETTINGS": "auth-userdb",
            "SOCKET2_SETTINGS": "/var/spool/postfix/private/auth",
            "RESTRICT_SETUID": "110",
        }
    )
    assert service.listeners == [
        (7, "login/login", "login"),
        (8, "auth-userdb", "userdb"),
        (9, "/var/spool/postfix/private/auth", "client"),
    ]
    assert (service.generation, service.client_limit, service.uid) == (7, 512, "110")


def test_2_4_gives_types() -> None:
    """And its first descriptor is 8, behind that of the configuration."""
    service = read_service(
        {
            **COMMON,
            "SOCKET0_SETTINGS": "login/login\ttype=login",
            "SOCKET1_SETTINGS": "auth-master\ttype=master",
            "SOCKET2_SETTINGS": "exim\ttype=auth-legacy",
        }
    )
    assert [listener[::2] for listener in service.listeners] == [(8, "login"), (9, "master"), (10, "client")]


@pytest.mark.parametrize("missing", ["SOCKET_COUNT", "GENERATION", "SOCKET2_SETTINGS"])
def test_without_a_master_the_mistake_is_explained(missing: str) -> None:
    """This command is for Dovecot's configuration, not for a shell."""
    environ = {**COMMON, **{f"SOCKET{n}_SETTINGS": "auth-client" for n in range(3)}}
    del environ[missing]
    with pytest.raises(ConfigError, match="not started by Dovecot"):
        read_service(environ)
