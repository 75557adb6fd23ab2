"""One template language for everything: the configuration's keys, the cache, the script, each in the dialect it has."""

from pathlib import Path

import pytest
import structlog
import trio

from authlua.auth import new_request
from authlua.config import load
from authlua.protocol import PassFound, UserFound
from authlua.server import open_core
from authlua.server.driving import complete

CONFIG = """
[server]
dialect = "{dialect}"
[auth]
cache_size = "1M"
username_format = "{format}"
[[passdb]]
script = "auth.lua"
use_worker = false
cache_key = "{key}"
default_fields = {{ given = "{field}" }}
override_fields = {{ taken = "{field}" }}
[[passdb]]
driver = "passwd-file"
file = "users-{file}"
[[userdb]]
driver = "static"
fields = {{ home = "/srv/{field}" }}
"""

SCRIPT = """
local calls = 0
{key_function}
function auth_passdb_lookup(req)
  calls = calls + 1
  if req.user:find("^file") then return dovecot.auth.PASSDB_RESULT_NEXT, "" end
  return dovecot.auth.PASSDB_RESULT_OK, {{
    password = "{{PLAIN}}pass", said = req:var_expand("{field}"), seen = req.passdb.given, calls = tostring(calls)
  }}
end
"""


@pytest.mark.parametrize(
    ("dialect", "format", "key", "field", "file"),
    [
        ("2.3", "%LRn@%Ld", "%s/%2.1Mu", "%{if;%s;eq;imap;I;%Us}-%{sha256;truncate=16:user}-%5.2u", "%Ld"),
        (
            "2.4",
            "%{user | username | reverse | lower}@%{user | domain | lower}",
            "%{protocol}/%{user}",
            "%{protocol | if('eq', 'imap', 'I', 'x')}-%{user | sha256 | hexlify | substr(0, 4)}-%{user | substr(5, 2)}",
            "%{user | domain | lower}",
        ),
    ],
)
def test_templates_are_everywhere_and_the_same(
    tmp_path: Path, dialect: str, format: str, key: str, field: str, file: str
) -> None:
    """A hash, a condition, a part of a text: from a key of the file, and asked for by the script."""
    function = f'function auth_passdb_get_cache_key() return "{key}" end' if dialect == "2.4" else ""
    script = SCRIPT.format(field=field, key_function=function)
    if dialect == "2.4":
        script = script.replace('RESULT_NEXT, ""', "RESULT_NEXT, nil")
    (tmp_path / "auth.lua").write_text(script)
    key_setting = key if dialect == "2.3" else ""
    config = CONFIG.format(dialect=dialect, format=format, key=key_setting, field=field, file=file)
    (tmp_path / "authlua.toml").write_text(config)
    (tmp_path / "users-example.com").write_text("file9@example.com:{PLAIN}pass\n")
    core = open_core(load(tmp_path / "authlua.toml"), structlog.wrap_logger(structlog.ReturnLogger(), processors=[]))

    def lookup(user: str, service: str = "imap") -> dict[str, str | None]:
        request = new_request([("service", service)], id=1)
        _, reply = trio.run(complete, core.auth.lookup_passdb(request, user))
        assert isinstance(reply, PassFound)
        return {"name": request.user, **dict(reply.fields)}

    try:
        fields = lookup("ECILA@Example.COM")
        expected = "I-ff8d-@e"  # the SHA-256 of alice@example.com begins with ff8d
        assert fields["name"] == "alice@example.com"
        assert [fields[name] for name in ("given", "taken", "said", "seen")] == [expected] * 4
        assert [lookup("ECILA@Example.COM")["calls"], lookup("ECILA@Example.COM", "pop3")["calls"]] == ["1", "2"]
        assert lookup("9ELIF@Example.COM")["name"] == "file9@example.com"
        asked = new_request([("service", "imap")], id=1)
        found = trio.run(complete, core.auth.lookup_user(asked, "ECILA@Example.COM"))
        assert isinstance(found, UserFound)
        assert ("home", f"/srv/{expected}") in found.fields
    finally:
        core.retire()
