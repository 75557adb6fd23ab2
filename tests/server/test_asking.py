"""Scripts in a worker that ask others: the server asks for them, and the worker is free meanwhile."""

import base64
from pathlib import Path

from authlua.conformance.raw import RawConnection
from tests.e2e.server import serving
from tests.services.redis_server import RedisServer, needs_redis

SCRIPT = """
local redis = dovecot.dict{ driver = "redis", port = PORT }
local file = dovecot.dict{ driver = "file", path = "DIRECTORY/dict" }

local function note(dict, user)
  local t = dict:transaction_begin(user)
  t:set("priv/seen/" .. user, "by " .. user)
  t:commit()
  return dict:lookup("priv/seen/" .. user, user)[1]
end

local inside = 0
function auth_passdb_lookup(req)
  inside = inside + 1
  local fields = { password = "{PLAIN}pass", redis = note(redis, req.user), file = note(file, req.user) }
  fields.dns = dovecot.dns{}:lookup("127.0.0.1")[1]
  fields.doveadm = (dovecot.doveadm{ socket_path = "/nonexistent" }:cmd{ "", "", "who" })
  dovecot.sleep(0.3)
  fields.together = inside
  return dovecot.auth.PASSDB_RESULT_OK, fields
end
function auth_userdb_lookup() return dovecot.auth.USERDB_RESULT_OK, {} end
"""

CONFIG = """
server.base_dir = "{directory}"
lua.worker_max = 1
passdb = [{{ script = "auth.lua", use_worker = true }}]
userdb = [{{ script = "auth.lua", use_worker = true }}]
listener = [{{ kind = "client", path = "auth-client" }}]
"""


@needs_redis
def test_calls_in_one_worker_wait_together(tmp_path: Path) -> None:
    """Each for its own answers, and all of them sleep at once."""
    with RedisServer() as redis:
        script = SCRIPT.replace("PORT", str(redis.port)).replace("DIRECTORY", str(tmp_path))
        (tmp_path / "auth.lua").write_text(script)
        (tmp_path / "authlua.toml").write_text(CONFIG.format(directory=tmp_path))
        with serving(tmp_path / "authlua.toml"), RawConnection.connect(tmp_path / "auth-client") as client:
            client.handshake(pid=4242)
            for each in range(1, 21):
                response = base64.b64encode(f"\0u{each}\0pass".encode()).decode()
                client.send(f"AUTH\t{each}\tPLAIN\tservice=imap\tresp={response}\n".encode())
            replies = {}
            for _ in range(20):
                kind, answered, *fields = (client.receive() or b"").decode().split("\t")
                assert kind == "OK"
                replies[int(answered)] = dict(field.split("=", 1) for field in fields)
        for number, found in sorted(replies.items()):
            assert found["user"] == f"u{number}"
            assert (found["redis"], found["file"]) == (f"by u{number}", f"by u{number}")
            assert (found["dns"], found["doveadm"]) == ("127.0.0.1", "1000")
        assert max(int(found["together"]) for found in replies.values()) == 20
        assert redis("GET", "u7/seen/u7") == "by u7"
