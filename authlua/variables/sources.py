"""Where the variables of an auth request come from; nothing is computed that no template asks for.

The only place of this room that knows `AuthRequest`, the process and the clock. Of 2.4's providers
(``core:2.4.1:src/lib-var-expand/var-expand.c``) all are here; 2.3 has ``env``, ``passdb`` and ``userdb``.
"""

import os
import time
from collections.abc import Callable, Mapping

from authlua.dialect import Dialect
from authlua.request import VARIABLES_2_3, VARIABLES_2_4, AuthRequest, Variable
from authlua.variables.template import ExpansionError, Variables


def request_variables(
    request: AuthRequest, dialect: Dialect, *, id: str = "", environ: Mapping[str, str] = os.environ
) -> Variables:
    """The variables of *request* as they are at the time of each lookup.

    *id* is the number of the passdb or userdb at work (``%!``, 2.4: ``%{id}``), *environ* what ``env:`` shows.
    """
    return _RequestVariables(request, *_DIALECTS[dialect], id, environ)


class _RequestVariables:
    __slots__ = ("_environ", "_id", "_id_name", "_providers", "_request", "_table")

    def __init__(
        self,
        request: AuthRequest,
        table: Mapping[str, Variable],
        providers: "Mapping[str, _Provider]",
        id_name: str,
        id: str,
        environ: Mapping[str, str],
    ) -> None:
        self._request = request
        self._table = table
        self._providers = providers
        self._id_name = id_name
        self._id = id
        self._environ = environ

    def lookup(self, name: str) -> str | None:
        variable = self._table.get(name)
        if variable is not None:
            return variable(self._request)
        if name == self._id_name:
            return self._id
        prefix, colon, field = name.partition(":")
        if not colon:
            raise KeyError(name)
        return self._providers[prefix](self, field)

    def passdb(self, field: str) -> str | None:
        fields = self._request.passdb_fields
        return fields.get(field, "") if field in fields else None

    def userdb(self, field: str) -> str | None:
        fields = self._request.userdb_fields
        return fields.get(field, "") if fields is not None and field in fields else None

    def env(self, field: str) -> str | None:
        return self._environ.get(field)

    def named_env(self, field: str) -> str | None:
        if not field:
            raise ExpansionError("env: Missing field")
        return self._environ.get(field)

    def event(self, field: str) -> str | None:
        variable = _EVENT_FIELDS.get(field)
        value = variable(self._request) if variable is not None else None
        if not value:
            raise ExpansionError(f"event: No such field '{field}' in event")
        return value

    def system(self, field: str) -> str | None:
        match field:
            case "hostname":
                return os.uname().nodename
            case "cpu_count":
                return self._environ.get("NCPU") or str(len(os.sched_getaffinity(0)))
            case "os":
                return os.uname().sysname
            case "os-version":
                return os.uname().release
        raise ExpansionError(f"system: Unsupported field '{field}'")

    def process(self, field: str) -> str | None:
        match field:
            case "pid":
                return str(os.getpid())
            case "uid":
                return str(os.geteuid())
            case "gid":
                return str(os.getegid())
        raise ExpansionError(f"process: Unsupported field '{field}'")

    def dovecot(self, field: str) -> str | None:
        try:
            return _DOVECOT[field]
        except KeyError:
            raise ExpansionError(f"dovecot: Unsupported field '{field}'") from None

    def date(self, field: str) -> str | None:
        try:
            return time.strftime({"year": "%Y", "month": "%m", "day": "%d"}[field])
        except KeyError:
            raise ExpansionError(f"date: Unsupported key '{field}'") from None

    def time(self, field: str) -> str | None:
        if field == "unix":  # of a later release, like the filters that take it
            seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
            return f"{seconds}.{nanoseconds:09}"
        if field in ("us", "usec"):
            return str(time.time_ns() // 1000 % 1_000_000)
        try:
            return time.strftime({"hour": "%H", "min": "%M", "minute": "%M", "sec": "%S", "second": "%S"}[field])
        except KeyError:
            raise ExpansionError(f"time: Unsupported key '{field}'") from None

    def generate(self, field: str) -> str | None:
        import uuid

        match field:
            case "guid":
                return f"{uuid.uuid4().hex[:16]}.{os.getpid():x}.{os.uname().nodename}"
            case "guid128" | "uuid:compact":
                return uuid.uuid4().hex
            case "uuid" | "uuid:record":
                return str(uuid.uuid4())
            case "uuid:microsoft":
                return f"{{{uuid.uuid4()}}}"
        raise ExpansionError(f"generate: Unsupported key '{field.removeprefix('uuid')}'")


_Provider = Callable[[_RequestVariables, str], str | None]

_DOVECOT = {
    "name": "Dovecot",
    "version": "2.4.1",
    "support-url": "https://www.dovecot.org/",
    "support-email": "dovecot@dovecot.org",
    "revision": "authlua",
}
"""What a script asks to learn which Dovecot it may count on; the revision tells the truth."""

_EVENT_FIELDS: Mapping[str, Variable] = {
    "user": VARIABLES_2_4["user"],
    "session": VARIABLES_2_4["session"],
    "mechanism": VARIABLES_2_4["mechanism"],
    "protocol": VARIABLES_2_4["protocol"],
    "remote_ip": VARIABLES_2_4["remote_ip"],
    "local_ip": VARIABLES_2_4["local_ip"],
    "remote_port": lambda r: str(r.rport) if r.rport else None,
    "local_port": lambda r: str(r.lport) if r.lport else None,
    "real_remote_ip": lambda r: r.real_rip if r.real_rip != r.rip else None,
    "original_user": VARIABLES_2_4["original_user"],
    "translated_user": lambda r: r.translated_user,
    "login_user": VARIABLES_2_4["login_user"],
    "master_user": VARIABLES_2_4["master_user"],
    "client_id": VARIABLES_2_4["client_id"],
    "local_name": VARIABLES_2_4["local_name"],
    "transport": lambda r: r.secured or "insecure",
}
"""The fields an auth request's event has, seen on 2.4.1 and all made from the request."""

_NAMES_2_3: Mapping[str, Variable] = {
    **VARIABLES_2_3,
    "uid": lambda r: str(os.geteuid()),
    "gid": lambda r: str(os.getegid()),
    "hostname": lambda r: os.uname().nodename,
}
_PROVIDERS_2_3: Mapping[str, _Provider] = {
    "env": _RequestVariables.env,
    "passdb": _RequestVariables.passdb,
    "userdb": _RequestVariables.userdb,
}
_PROVIDERS_2_4: Mapping[str, _Provider] = {
    "env": _RequestVariables.named_env,
    "passdb": _RequestVariables.passdb,
    "userdb": _RequestVariables.userdb,
    "event": _RequestVariables.event,
    "process": _RequestVariables.process,
    "system": _RequestVariables.system,
    "dovecot": _RequestVariables.dovecot,
    "date": _RequestVariables.date,
    "time": _RequestVariables.time,
    "generate": _RequestVariables.generate,
}
_DIALECTS: Mapping[Dialect, tuple[Mapping[str, Variable], Mapping[str, _Provider], str]] = {
    Dialect.V2_3: (_NAMES_2_3, _PROVIDERS_2_3, "!"),
    Dialect.V2_4_0: (VARIABLES_2_4, _PROVIDERS_2_4, "id"),
    Dialect.V2_4: (VARIABLES_2_4, _PROVIDERS_2_4, "id"),
}
