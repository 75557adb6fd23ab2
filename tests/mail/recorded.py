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
from authlua.lua import MailScript, ScriptOptions, load_mail_script, mail_lua_get_script, pcall, push_mail
from authlua.mail import Mailbox, MailUser, Storage

VECTORS = Path(__file__).parents[1] / "vectors" / "mail-lua"
DIALECTS = {"2.3.19.1": Dialect.V2_3, "2.4.1": Dialect.V2_4}


SESSIONS = ["constants", "mailbox", "metadata", "nometadata", "recent", "status", "user", "user-2.4"]
HOOKS = sorted(path.stem for path in VECTORS.glob("expected/hooks/*.json"))
CRASHES = json.loads((VECTORS / "expected" / "crashes.json").read_text())
INSTEAD = {
    "getenv_nil": "bad argument #1 to 'plugin_getenv' (string expected, got nil)",
    "mailbox_eq_after_free": "mailbox is freed",
    "mailbox_invalid_utf8": "mailbox name is not valid UTF-8",
    "mailbox_not_freed_error": "failed: @SCRIPT@:5: x",
    "mailbox_not_freed_global": "Warning: mail_user_deinit_pre(user): mailbox INBOX was not freed",
    "mailbox_not_freed_negative": "mail_user_deinit_pre(user) failed: x",
    "mailbox_tostring_after_free": "mailbox is freed",
    "mailbox_use_after_free": "mailbox is freed",
    "plain_table_self": "Bad argument #1, expected struct mail_user got table",
    "user_lt": "Bad argument #2, expected struct mail_user got string",
}
"""What is said where Dovecot's process ends; the others just work."""


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


def push_recorded_mails(storage: Storage) -> None:
    """Hand the mails of the recording to alice's script, as the test plugin did that it was made with."""
    script = mail_lua_get_script(alice(Path()))
    assert script is not None
    objects = []
    for name in ("INBOX", "Archive"):
        box = Mailbox(storage, name)
        mails = list(box.mails())
        objects += [push_mail(script, box, mails[seq - 1]) for seq in (1, 2, 3, 1)]
    pcall(script, "test_mails", *objects)


def assert_recorded_mails(results: Sequence[Any], recording: Recording) -> None:
    """All is as recorded, but that ``==`` is the right way round, and there are more fields."""
    inverted = {"eq same uid, two objects", "eq other uid"}
    ours = {"fields", "unknown member"} | inverted
    got, wanted = (
        [forgiving(result) for result in side if result.get("case") not in ours]
        for side in (results, recording.results)
    )
    assert got == wanted
    values = {result["case"]: result["values"] for result in results if "values" in result}
    assert values["eq same uid, two objects"] == [["boolean", True], ["boolean", False]]
    assert values["eq other uid"] == [["boolean", False], ["boolean", True]]
    fields = dict(next(result["values"][0][1] for result in recording.results if result["case"] == "fields"))
    assert values["fields"][0][1].items() >= fields.items()
