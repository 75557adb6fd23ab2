"""Kerberos tickets from a real KDC let in, through MIT's library on the client's side."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from authlua.results import PassdbResult
from authlua.sasl import MECHS, Challenge, Offload, PassdbField, Refused, Service, SetUser, Terms
from authlua.sasl.gssapi import _step
from authlua.secret import Secret
from tests.ports import free_port
from tests.sasl.talking import Passdb

REALM = "TEST.EXAMPLE.ORG"
HOST = "mail.example.org"
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
PATIENCE = 30.0
NO_GSSAPI = "missing: .venv/bin/pip install gssapi (on Debian after apt-get install gcc libkrb5-dev python3-dev)"

KRB5_CONF = f"""
[libdefaults]
  default_realm = {REALM}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  {REALM} = {{
    kdc = 127.0.0.1:PORT
  }}
[domain_realm]
  {HOST} = {REALM}
"""
KDC_CONF = f"""
[kdcdefaults]
  kdc_listen = 127.0.0.1:PORT
  kdc_tcp_listen = 127.0.0.1:PORT
[realms]
  {REALM} = {{
    database_name = DIRECTORY/principal
    key_stash_file = DIRECTORY/stash
    acl_file = DIRECTORY/acl
  }}
"""


@pytest.fixture(scope="module")
def kerberos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A KDC of our own; alice and bob have tickets, and the keytab has our service."""
    pytest.importorskip("gssapi", reason=NO_GSSAPI)
    found = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in PROGRAMS}
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"missing: {' '.join(missing)}: apt-get install krb5-kdc krb5-admin-server krb5-user")
    directory = tmp_path_factory.mktemp("kerberos")
    port = free_port()
    (directory / "krb5.conf").write_text(KRB5_CONF.replace("PORT", str(port)))
    (directory / "kdc.conf").write_text(KDC_CONF.replace("PORT", str(port)).replace("DIRECTORY", str(directory)))
    ours = {
        "KRB5_CONFIG": str(directory / "krb5.conf"),
        "KRB5_KDC_PROFILE": str(directory / "kdc.conf"),
        "KRB5_KTNAME": str(directory / "keytab"),
        "KRB5RCACHETYPE": "none",
    }

    def run(name: str, *arguments: str, text: str = "", **env: str) -> None:
        command = [found[name] or "", *arguments]
        done = subprocess.run(
            command, input=text, text=True, env=os.environ | ours | env, capture_output=True, timeout=PATIENCE
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
    for user in ("alice", "bob"):
        run("kadmin.local", "-r", REALM, "-q", f"addprinc -pw {user}pw {user}")
    for service in ("imap", "pop"):
        run("kadmin.local", "-r", REALM, "-q", f"addprinc -randkey {service}/{HOST}")
        run("kadmin.local", "-r", REALM, "-q", f"ktadd -k {directory}/keytab {service}/{HOST}")
    with (directory / "kdc.log").open("wb") as log:
        kdc = subprocess.Popen([found["krb5kdc"] or "", "-n"], env=os.environ | ours, stdout=log, stderr=log)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ours.items():
            patch.setenv(name, value)
        try:
            for _ in range(int(PATIENCE / 0.05)):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            for user in ("alice", "bob"):
                run("kinit", user, text=f"{user}pw\n", KRB5CCNAME=f"FILE:{directory}/{user}.ccache")
            yield directory
        finally:
            kdc.terminate()
            kdc.wait(PATIENCE)


@pytest.fixture
def library(kerberos: Path) -> ModuleType:
    """python-gssapi, configured for the KDC."""
    import gssapi

    return gssapi


class Client:
    """The client's side of RFC 4752, after python-gssapi's own documentation; *negotiates* wraps it into SPNEGO."""

    def __init__(
        self,
        library: ModuleType,
        kerberos: Path,
        user: str,
        *,
        service: str = "imap",
        authzid: str = "",
        negotiates: bool = False,
    ) -> None:
        mech = library.OID.from_int_seq("1.3.6.1.5.5.2") if negotiates else library.MechType.kerberos
        store = {"ccache": f"FILE:{kerberos}/{user}.ccache"}
        credentials = library.Credentials(usage="initiate", store=store)
        name = library.Name(f"{service}@{HOST}", library.NameType.hostbased_service)
        self._context = library.SecurityContext(name=name, creds=credentials, mech=mech, usage="initiate")
        self._authzid = authzid

    def answer(self, challenge: bytes) -> bytes:
        if not self._context.complete:
            return self._context.step(challenge or None) or b""
        assert self._context.unwrap(challenge).message == b"\1\xff\xff\xff"
        return self._context.wrap(b"\1\0\0\0" + self._authzid.encode(), False).message


def log_in(
    client: Client | None, kerberos: Path, mech: str = "GSSAPI", *, service: str = "imap", **passdb: Any
) -> tuple[Any, list[str]]:
    """The mech's verdict, and the names it set."""
    terms = Terms(gssapi_hostname=HOST, krb5_keytab=str(kerberos / "keytab"))
    database = Passdb(**{key: value for key, value in passdb.items() if key != "k5principals"})
    talk = MECHS[mech].start(None, terms)
    names: list[str] = []
    outcome: Any = None
    while True:
        try:
            wish = talk.send(outcome)
        except StopIteration as done:
            return done.value, names
        match wish:
            case Challenge(data):
                outcome = Secret(b"garbage" if client is None else client.answer(data))
            case Offload(function, arguments):
                outcome = function(*arguments)
            case Service():
                outcome = service
            case PassdbField("k5principals"):
                outcome = passdb.get("k5principals")
            case _:
                names += [wish.user] if isinstance(wish, SetUser) else []
                outcome = database.grant(wish)


@pytest.mark.parametrize("result", [None, PassdbResult.USER_UNKNOWN, PassdbResult.SCHEME_NOT_AVAILABLE])
@pytest.mark.parametrize("mech", ["GSSAPI", "GSS-SPNEGO"])
def test_a_ticket_lets_in(library: ModuleType, kerberos: Path, mech: str, result: PassdbResult | None) -> None:
    """Whether the passdbs know the user or not; the name is the principal's."""
    verdict, names = log_in(
        Client(library, kerberos, "alice", negotiates=mech == "GSS-SPNEGO"), kerberos, mech, result=result
    )
    assert (verdict, names) == (PassdbResult.OK, [f"alice@{REALM}"] * 2)


def test_pop3_is_called_pop(library: ModuleType, kerberos: Path) -> None:
    """As every Kerberos client calls it."""
    client = Client(library, kerberos, "alice", service="pop")
    assert log_in(client, kerberos, service="pop3")[0] is PassdbResult.OK


def test_a_name_without_its_realm_is_the_same_name(library: ModuleType, kerberos: Path) -> None:
    """Mail clients send what the user typed."""
    verdict, names = log_in(Client(library, kerberos, "alice", authzid="alice"), kerberos)
    assert (verdict, names[-1]) == (PassdbResult.OK, "alice")


def test_nobody_becomes_another_user(library: ModuleType, kerberos: Path) -> None:
    """Unless the passdb says that this principal may."""
    verdict, _ = log_in(Client(library, kerberos, "bob", authzid="alice"), kerberos)
    assert verdict == Refused(f"bob@{REALM} is not authorized to log in as alice")
    client = Client(library, kerberos, "bob", authzid="alice")
    verdict, names = log_in(client, kerberos, k5principals=f"carol@{REALM},bob@{REALM}")
    assert (verdict, names[-1]) == (PassdbResult.OK, "alice")


@pytest.mark.parametrize(
    "result", [PassdbResult.INTERNAL_FAILURE, PassdbResult.USER_DISABLED, PassdbResult.PASS_EXPIRED]
)
def test_a_ticket_does_not_help_a_disabled_user(library: ModuleType, kerberos: Path, result: PassdbResult) -> None:
    """What the passdb says of the user counts."""
    assert log_in(Client(library, kerberos, "alice"), kerberos, result=result)[0] is result


def test_garbage_is_refused(library: ModuleType, kerberos: Path) -> None:
    """With what the library thinks of it, for the log."""
    verdict, _ = log_in(None, kerberos)
    assert isinstance(verdict, Refused)
    assert verdict.reason.startswith("processing incoming data: ")


def test_a_ticket_for_another_service_is_refused(library: ModuleType, kerberos: Path) -> None:
    """Our keys for it are not asked for."""
    client = Client(library, kerberos, "alice", service="pop")
    assert isinstance(log_in(client, kerberos, service="imap")[0], Refused)


def test_without_keys_nobody_is_refused_for_good(library: ModuleType, kerberos: Path) -> None:
    """A keytab that is not there is the admin's doing: a temporary failure."""
    verdict, _ = log_in(Client(library, kerberos, "alice"), kerberos / "nowhere")
    assert (verdict.result, verdict.level) == (PassdbResult.INTERNAL_FAILURE, "error")


def test_nothing_of_kerberos_is_loaded_before_it_is_needed() -> None:
    """The package is optional, and takes its time."""
    code = "import sys, authlua.sasl; sys.exit('gssapi' in sys.modules or 'subprocess' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE).returncode == 0


def test_only_kerberos_counts() -> None:
    """The library may know other mechanisms, whose names are nobody's here."""
    pytest.importorskip("gssapi", reason=NO_GSSAPI)
    context = SimpleNamespace(
        step=lambda token: b"", complete=True, mech=SimpleNamespace(dotted_form="1.2.3"), initiator_name="alice"
    )
    assert _step(context, b"token") == ("GSSAPI mechanism is not Kerberos 5",)
