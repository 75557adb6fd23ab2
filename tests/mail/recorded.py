"""What real Dovecot answered to scripts, and the same scripts run by authlua."""

import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import MailScript, ScriptOptions, load_mail_script
from authlua.mail import MailUser, Storage

VECTORS = Path(__file__).parents[1] / "vectors" / "mail-lua"
DIALECTS = {"2.3.19.1": Dialect.V2_3, "2.4.1": Dialect.V2_4}


class Recording(NamedTuple):
    """One script under one Dovecot."""

    script: Path
    dialect: Dialect
    exit: int
    log: Sequence[str]
    results: Sequence[Any]


def recordings(path: Path) -> dict[str, Recording]:
    """What is recorded in *path*, by version."""
    data = json.loads(path.read_text())
    found = {}
    for versions, seen in data["observed"].items():
        for version in versions.split(" = "):
            found[version] = Recording(
                VECTORS / data["script"], DIALECTS[version], seen["exit"], seen["log"], seen["results"]
            )
    return found


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mkmaildir", VECTORS / "mkmaildir.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(home: Path, spec: dict[str, Any] | None = None) -> Path:
    """The recorded mail store below *home*, or another of that form; the Maildir."""
    _builder().build(spec or json.loads((VECTORS / "maildir.json").read_text()), str(home))
    return home / "Maildir"


def alice(home: Path) -> MailUser:
    """The user of all recordings."""
    return MailUser(
        username="alice@example.org",
        home=str(home),
        uid=65534,
        gid=65534,
        service="doveadm",
        session_id="s1",
        session_create_time=1_700_000_000,
        plugin={"my_setting": "hello %u", "empty_setting": "", "flag_setting": "yes"},
    )


class Run(NamedTuple):
    """What came of running a script."""

    results: Sequence[Any]
    log: Sequence[str]
    failure: str | None
    """Why there was no session."""


def run(
    source: Path,
    dialect: Dialect,
    home: Path,
    storage: Storage,
    monkeypatch: Any,
    extra: Callable[[MailScript], None] = lambda script: None,
) -> Run:
    """All hooks of *source*, one after the other, with the recorder it expects; *extra* after the first of them."""
    # Lua shortens long paths, so the script is where its path is short
    script = Path(tempfile.mkdtemp()) / source.name
    shutil.copy(source, script)
    out = home / "out.jsonl"
    out.touch()
    monkeypatch.setenv("MAIL_LUA_PRELUDE", str(VECTORS / "prelude.lua"))
    monkeypatch.setenv("MAIL_LUA_OUT", str(out))
    log: list[str] = []
    failure = None
    try:
        loaded = load_mail_script(
            script,
            alice(home),
            storage,
            log=lambda level, text, request, fields: log.append(f"{level.capitalize()}: {text}"),
            dialect=dialect,
            options=ScriptOptions(),
        )
    except ScriptError as error:
        failure = str(error)
    else:
        try:
            refusal = loaded.created()
            if refusal is not None:
                failure = f"mail_user_created(user) failed: {refusal}"
        except ScriptError as error:
            failure = str(error)
        if failure is None:
            extra(loaded)
            loaded.deinit()
        loaded.close()
    shutil.rmtree(script.parent)

    def plain(text: str) -> str:
        return text.replace(str(script), "@SCRIPT@").replace(str(home), "@HOME@")

    results = [json.loads(plain(line)) for line in out.read_text().splitlines()]
    return Run(results, [plain(line) for line in log], None if failure is None else plain(failure))


def forgiving(result: Any) -> Any:
    """*result* less the position of a wrong argument, which Lua forgets where a method is called in a ``return``."""
    if "error" in result and "bad argument #" in result["error"][1]:
        return {**result, "error": ["string", re.sub(r"^[^:]+:\d+: ", "", result["error"][1])]}
    return result
