"""Asks a real Dovecot what it makes of templates, and writes down the answers: the golden vectors of this room.

::

    python tests/variables/record.py tests/vectors/var-expand-2.3.json
    python tests/variables/record.py tests/vectors/var-expand-2.4.json .cache/dovecot-2.4

The templates are those of the file itself; for a new one, add ``{"template": "…"}`` to its cases and record again.
Each is expanded by ``req:var_expand`` in a Lua passdb, for two requests: one that has everything, one that has
almost nothing. Needs root (Dovecot starts as root) and the package dovecot-auth-lua, installed or, with a second
argument, in a directory to chroot into.

Not in the 2.4 file, as 2.4.1 never returns from them: a fill with nothing, an index with no separator, a lone
backslash in a replacement. Templates it crashes on are, and say so.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REQUESTS: dict[str, dict[str, str | None]] = {
    "full": {
        "user": "Tim.O'B@Mail.Example.org@Sub",
        "password": 'pä ss"word',
        "service": "imap",
        "lip": "192.0.2.1",
        "rip": "2001:db8::7",
        "lport": "143",
        "rport": "40123",
        "real_lip": "192.0.2.10",
        "real_rip": "198.51.100.4",
        "real_lport": "1143",
        "real_rport": "5555",
        "session": "Sess/ion+1",
        "local_name": "mail.example.org",
        "client_id": "name x",
        "secured": None,
        "valid-client-cert": None,
    },
    "bare": {"user": "joe", "password": "x", "service": "smtp"},
}
FIELDS = {"plan": "gold", "userdb_quota": "5"}
"""What the passdb's own configuration adds before the script is called; passdb fields all, userdb fields some."""
ENVIRONMENT = {"TZ": "UTC", "VAR_EXPAND": "environment"}

SCRIPT = """
local function unhex(text)
  return (text:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end
local function hex(text)
  return (text:gsub(".", function(char) return string.format("%02x", char:byte()) end))
end
local function answer(fine, text)
  return (fine and "ok " or "error ") .. hex(text)
end
function auth_passdb_lookup(request)
  local results, seen = io.open("DIRECTORY/results", "a+"), 0
  for _ in results:lines() do
    seen = seen + 0.5
  end
  for line in io.lines("DIRECTORY/templates") do
    if seen > 0 then
      seen = seen - 1
      goto next
    end
    results:write("> ", line, "\\n")
    results:flush()
    results:write(answer(pcall(request.var_expand, request, unhex(line))), "\\n")
    results:flush()
    ::next::
  end
  results:close()
  return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "done"
end
"""

CONFIG = {
    "2.3": """
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/log
protocols =
ssl = no
import_environment = TZ VAR_EXPAND
auth_username_chars =
auth_username_format =
auth_failure_delay = 0
passdb {{
  driver = lua
  args = file={directory}/script.lua blocking=no
  default_fields = {fields}
}}
service auth {{
  user = root
}}
""",
    "2.4": """
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/log
protocols =
ssl = no
import_environment {{
  TZ = UTC
  VAR_EXPAND = environment
}}
auth_username_chars =
auth_username_format =
auth_failure_delay = 0
passdb lua {{
  lua_file = {directory}/script.lua
  passdb_use_worker = no
  fields {{
{fields}
  }}
}}
service auth {{
  user = root
}}
""",
}


def fields(version: str) -> str:
    """`FIELDS` as the configuration spells them."""
    between = {"2.3": "=", "2.4": " = "}[version]
    return {"2.3": " ", "2.4": "\n"}[version].join(f"{name}{between}{value}" for name, value in FIELDS.items())


def ask(path: Path, request: dict[str, str | None]) -> bool:
    """Send one AUTH and wait for its verdict; False when the server goes away instead."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        lines = connection.makefile("rb")
        connection.sendall(b"VERSION\t1\t1\nCPID\t4242\n")
        while lines.readline() != b"DONE\n":
            pass
        secret = f"\0{request['user']}\0{request['password']}".encode()
        words = ["AUTH\t1\tPLAIN"]
        for name, value in request.items():
            if name not in ("user", "password"):
                words.append(name if value is None else f"{name}={value}")
        words.append("resp=" + base64.b64encode(secret).decode())
        connection.sendall("\t".join(words).encode() + b"\n")
        return lines.readline().startswith(b"FAIL\t1\t")


def serve_once(inside: list[str], scratch: Path, config: str, request: dict[str, str | None]) -> bool:
    """Start Dovecot, ask once, stop it; False when it crashed meanwhile."""
    (scratch / "log").unlink(missing_ok=True)
    program = "dovecot" if inside else shutil.which("dovecot") or "/usr/sbin/dovecot"
    environment = {"PATH": os.environ["PATH"], **ENVIRONMENT}
    server = subprocess.Popen([*inside, program, "-F", "-c", config], env=environment)
    try:
        for _ in range(100):
            if (scratch / "run/auth-client").exists():
                break
            time.sleep(0.1)
        return ask(scratch / "run/auth-client", request)
    finally:
        server.terminate()
        server.wait()
        (scratch / "run/auth-client").unlink(missing_ok=True)


def record(version: str, chroot: str, templates: list[str]) -> dict[str, list[tuple[str, str]]]:
    """The answers for each request, a ("ok", "error" or "crash", text) for each template."""
    inside = ["chroot", chroot] if chroot else []
    answers = {}
    with tempfile.TemporaryDirectory(dir=chroot + "/tmp") as name:
        scratch = Path(name)
        scratch.chmod(0o755)
        directory = "/" + os.path.relpath(scratch, chroot or "/")
        (scratch / "dovecot.conf").write_text(CONFIG[version].format(directory=directory, fields=fields(version)))
        (scratch / "script.lua").write_text(SCRIPT.replace("DIRECTORY", directory))
        encoded = [template.encode("utf-8", "surrogateescape").hex() for template in templates]
        (scratch / "templates").write_text("\n".join(encoded) + "\n")
        results = scratch / "results"
        for kind, request in REQUESTS.items():
            results.write_text("")
            for _ in templates:
                if serve_once(inside, scratch, f"{directory}/dovecot.conf", request):
                    break
                if results.read_text().count("\n") % 2 == 0:
                    raise SystemExit("Dovecot failed, and not in var_expand:\n" + (scratch / "log").read_text())
                with results.open("a") as file:
                    file.write("crash \n")
            lines = results.read_text().splitlines()
            answers[kind] = [
                (outcome, bytes.fromhex(text).decode("utf-8", "surrogateescape"))
                for outcome, _, text in (line.partition(" ") for line in lines[1::2])
            ]
    return answers


def main() -> None:
    path, chroot = Path(sys.argv[1]), os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else ""
    recorded = json.loads(path.read_text())
    templates = [case["template"] for case in recorded["cases"]]
    answers = record(path.stem.removeprefix("var-expand-"), chroot, templates)
    cases = []
    for index, template in enumerate(templates):
        case = {"template": template}
        for name in REQUESTS:
            outcome, text = answers[name][index]
            case[f"{name}_{outcome}"] = text.removeprefix(f"var_expand({template}) failed: ")
        cases.append(case)
    inside = ["chroot", chroot] if chroot else []
    program = subprocess.run([*inside, "dovecot", "--version"], capture_output=True, text=True, check=True)
    head = {
        "origin": f"Dovecot {program.stdout.strip()} (Debian), recorded by tests/variables/record.py",
        "requests": REQUESTS,
        "passdb_fields": FIELDS,
        "userdb_fields": {
            name.removeprefix("userdb_"): value for name, value in FIELDS.items() if name.startswith("userdb_")
        },
        "environment": ENVIRONMENT,
    }
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    path.write_text(json.dumps(head, indent=1)[:-2] + ',\n "cases": [\n' + lines + "\n ]\n}\n")


if __name__ == "__main__":
    main()
