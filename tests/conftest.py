"""What every test run says first, which engines and servers it questions, and last, how none need be skipped."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

os.environ["PATH"] += (
    ":/usr/local/sbin:/usr/sbin:/sbin"  # where Debian keeps servers, and where a plain user does not look
)

# how long an example takes says more of the machine than of the code
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_report_header() -> list[str]:
    """Name the versions under test, so that a report can be judged without the machine it came from."""
    return [
        f"python {platform.python_version()}, trio {version('trio')}, "
        f"lupa {version('lupa')} with Lua {', '.join(lua_versions())}",
        f"dovecot {dovecot_2_3() or 'not installed'}, dovecot 2.4 {dovecot_2_4() or 'not bootstrapped'}",
    ]


def lua_versions() -> list[str]:
    """The Lua versions this lupa was built with, as its extension modules are called."""
    import lupa

    modules = (module.name.partition(".")[0] for module in Path(lupa.__file__).parent.glob("lua*.so"))
    return sorted({f"{name[3]}.{name[4:]}" if name[3:].isdigit() else name for name in modules})


def dovecot_2_3() -> str | None:
    """What the installed Dovecot calls itself; `None` without one."""
    if shutil.which("dovecot") is None:
        return None
    return subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def dovecot_2_4() -> str | None:
    """The version of the bootstrapped Dovecot 2.4, read from its package database; `None` without one."""
    status = ROOT / ".cache/dovecot-2.4/var/lib/dpkg/status"
    if not status.is_file():
        return None
    for package in status.read_text(errors="replace").split("\n\n"):
        if package.startswith("Package: dovecot-core\n"):
            return next(line[9:] for line in package.splitlines() if line.startswith("Version: "))
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Give the one command for each kind of test that was skipped for want of a program or of root."""
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if hasattr(report, "keywords")]
    advice = {
        "root": None if os.geteuid() == 0 else "make test, as root",
        "dovecot24": None if dovecot_2_4() else "make test-2.4, as root",
        "e2e": None if has_clients() else "tests/e2e/install-clients, as root on Debian",
        "dovecot": None if dovecot_2_3() else "tests/e2e/install-clients, as root on Debian",
    }
    counts: dict[str, int] = {}
    for report in skipped:
        command = next((advice[kind] for kind in advice if kind in report.keywords and advice[kind]), None)
        if command:
            counts[command] = counts.get(command, 0) + 1
    if counts:
        terminalreporter.section("skipped tests that could run")
        for command, count in counts.items():
            terminalreporter.line(f"{count:>5} after: {command}")


def has_clients() -> bool:
    """Whether all that ``tests/e2e/install-clients`` installs is there."""
    return bool(dovecot_2_3() and shutil.which("postfix") and (ROOT / ".cache/exim/usr/sbin/exim4").is_file())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several processes share the work (``make test``): the tests of a file stay together, as its fixtures serve them
    all; those of ``tests/e2e``, whose fixtures serve many files, stay with the servers they need."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]  # it carries no types
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            servers = re.search(r"\[(2\.[34]-[^-\]]+)", test) if file.startswith("tests/e2e/") else None
            return f"tests/e2e of {servers[1]}" if servers else file

    return Together(config, log)
