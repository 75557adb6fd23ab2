"""What the commands `repl` and `test-script` have in common: a Lua state, made as the configuration says."""

import argparse
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authlua.dialect import Dialect
    from authlua.lua import Prompt, ScriptLog
    from authlua.request import AuthRequest

PARAMS = {
    "protocol": "service",
    "local_ip": "lip",
    "remote_ip": "rip",
    "local_port": "lport",
    "remote_port": "rport",
    "real_local_ip": "real_lip",
    "real_remote_ip": "real_rip",
    "real_local_port": "real_lport",
    "real_remote_port": "real_rport",
    "cert": "valid-client-cert",
}
"""Members of a request → what clients call them; most have one name."""

KNOWN = {"service", "lip", "rip", "lport", "rport", "real_lip", "real_rip", "real_lport", "real_rport", "secured",
         "session", "local_name", "client_id", "ssl_ja3_hash", *PARAMS}  # fmt: skip
FLAGS = {
    "skip_password_check",
    "passdbs_seen_user_unknown",
    "passdbs_seen_internal_failure",
    "userdbs_seen_internal_failure",
}
OWN = {"user", "original_user", "login_user", "master_user", "password", "mech", "passdb", "userdb"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both have."""
    parser.add_argument(
        "--dialect",
        choices=("auto", "2.3", "2.4.0", "2.4"),
        default="auto",
        help="whose Lua API there is; auto (the default) reads it off the script",
    )


def sources(*paths: Path) -> bytes:
    """The texts of *paths*, to read the dialect off; what cannot be read is reported when it is loaded."""
    texts = []
    for path in paths:
        with suppress(OSError):
            texts.append(path.read_bytes())
    return b"\n".join(texts)


def open_prompt(args: argparse.Namespace, directory: Path, sources: bytes, log: "ScriptLog") -> "Prompt":
    """A fresh state; *sources* is what the dialect is read off when nobody says it."""
    from authlua.cli.source import settings_or_defaults
    from authlua.dialect import Dialect
    from authlua.lua import Prompt, ScriptOptions, detect
    from authlua.services import fulfil_now

    settings = settings_or_defaults(args)
    lua = settings.lua
    dialect = Dialect(args.dialect) if args.dialect != "auto" else detect(sources) or settings.server.dialect
    options = ScriptOptions(
        version=lua.version, path=lua.path, cpath=lua.cpath, verbose=True, memory_limit=lua.memory_limit, now=fulfil_now
    )
    return Prompt(lambda values: make_request(values, dialect), directory, log=log, dialect=dialect, options=options)


def make_request(values: Mapping[str, Any], dialect: "Dialect") -> "AuthRequest":
    """The request that ``request{…}`` describes; raises `ValueError`."""
    from authlua.auth import new_request
    from authlua.fields import Fields
    from authlua.secret import Secret

    unknown = sorted(str(name) for name in values if name not in KNOWN | FLAGS | OWN)
    if unknown:
        known = ", ".join(sorted(KNOWN | FLAGS | OWN))
        raise ValueError(f"no member {unknown[0]!r} can be set; there are {known}")
    params: list[tuple[str, str | None]] = [
        (PARAMS.get(name, name), None if value is True else str(value))
        for name, value in values.items()
        if name in KNOWN
    ]
    request = new_request(params, id=1, mech=str(values.get("mech", "PLAIN")), dialect=dialect)
    request.user = request.original_user = _text(values, "user")
    for name in ("original_user", "login_user", "master_user"):
        if name in values:
            setattr(request, name, _text(values, name))
    if "password" in values:
        request.password = Secret((_text(values, "password") or "").encode("utf-8", "surrogateescape"))
    for name in FLAGS:
        setattr(request, name, bool(values.get(name, False)))
    for name in ("passdb", "userdb"):
        if name in values:
            if not isinstance(values[name], dict):
                raise ValueError(f"{name}: expected a table of fields")
            setattr(request, f"{name}_fields", Fields([(str(key), str(value)) for key, value in values[name].items()]))
    return request


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    return None if value is None else str(value)
