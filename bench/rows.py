"""The other rows of the targets table, one function each. A row is what it says it is: see `Row`."""

import base64
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from authlua.conformance.raw import RawConnection
from bench.load import Load, build, load
from bench.servers import COMPILED, Authlua, Dovecot, descendants, environment, memory
from tests.twins.databases import mariadb, why_no_mariadb

HERE = Path(__file__).parent
SCRIPT = HERE / "auth.lua"
STORM_RATE = 1000
LUA_SOCKET = Path("/usr/share/lua/5.4/socket.lua")
DEBIAN_LUA = """path = ["/usr/share/lua/5.4/?.lua"]
cpath = ["/usr/lib/x86_64-linux-gnu/lua/5.4/?.so"]
"""


class Row(NamedTuple):
    """One line of the targets table."""

    what: str
    target: str
    measured: str
    met: bool | None
    """None when the runs contradict each other."""


def start(seconds: float, rounds: int) -> Iterator[Row]:
    """From exec to READY; and what a cold lookup on the command line costs."""
    for worker in False, True:
        taken = []
        for _ in range(2 * rounds):
            with Authlua(SCRIPT, worker=worker) as server:
                taken.append(server.seconds_to_ready)
        median = statistics.median(taken)
        kind = "in workers" if worker else "in the server"
        yield Row(f"start to READY, script {kind}", "≤ 0.4 s", f"{median:.2f} s", median <= 0.4)
    used = []
    for _ in range(2 * rounds):
        before = _children_cpu()
        command = [sys.executable, "-P", "-m", "authlua", "test-lookup", "--script", str(SCRIPT), "u1@x"]
        subprocess.run(command, env=environment(COMPILED), check=True, stdout=subprocess.DEVNULL)
        used.append(_children_cpu() - before)
    median = statistics.median(used)
    yield Row("cold `authlua test-lookup`, processor time", "≤ 0.3 s", f"{median:.2f} s", median <= 0.3)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def sizes(seconds: float, rounds: int) -> Iterator[Row]:
    """Memory of a server, of a connection that says nothing, and of a worker."""
    with Authlua(SCRIPT, worker=False) as server:
        load(server.sockets["client"], c=4, k=16, t=seconds)
        before = memory(server.pid)["Rss"]
        yield Row("memory of the server, one script", "≤ 60 MB", f"{before / 1e6:.0f} MB", before <= 60e6)
        many = []
        for number in range(4000):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(server.sockets["client"]))
            sock.sendall(b"VERSION\t1\t2\nCPID\t%d\n" % (10000 + number))
            many.append(sock)
        for sock in many:
            while not sock.recv(4096).endswith(b"DONE\n"):
                pass
        each = (memory(server.pid)["Rss"] - before) / len(many)
        yield Row("memory of an idle connection (of 4,000)", "≤ 10 kB", f"{each / 1e3:.1f} kB", each <= 10e3)
        for sock in many:
            sock.close()
    with Authlua(SCRIPT, worker=True) as server:
        load(server.sockets["client"], c=4, k=16, t=seconds)
        zygote, *_ = descendants(server.pid)
        workers = [pid for pid in descendants(server.pid) if pid != zygote]
        private = statistics.median(memory(pid)["Private"] for pid in workers)
        yield Row("memory of a worker that nobody shares", "≤ 8 MB", f"{private / 1e6:.1f} MB", private <= 8e6)


def half(seconds: float, rounds: int) -> Iterator[Row]:
    """How long answers take when requests come at half the rate that the slower of the two can bear."""
    for worker in False, True:
        with Authlua(SCRIPT, worker=worker) as authlua, Dovecot(SCRIPT, worker=worker) as dovecot:
            pair = (authlua, dovecot)
            most = {server.name: load(server.sockets["client"], c=50, k=1, t=seconds, x=True) for server in pair}
            rate = min(run.per_second for run in most.values()) / 2
            seen: dict[str, list[float]] = {"authlua": [], "Dovecot": []}
            for number in range(rounds):
                for server in pair if number % 2 else reversed(pair):
                    run = load(server.sockets["client"], c=50, k=16, w=0.2, t=seconds, r=f"{rate:.0f}", x=True)
                    seen[server.name].append(run.p99)
        ours, theirs = (statistics.median(values) for values in seen.values())
        met = ours <= theirs
        slower, faster = ("Dovecot", "authlua") if met else ("authlua", "Dovecot")
        kind = "in workers" if worker else "in the server"
        yield Row(
            f"p99 at half load ({rate:,.0f} logins/s on 50 connections), script {kind}",
            "≤ Dovecot's",
            f"{ours / 1e3:.2f} ms, Dovecot {theirs / 1e3:.2f} ms",
            met if max(seen[faster]) <= min(seen[slower]) else None,
        )


def slow(seconds: float, rounds: int) -> Iterator[Row]:
    """A backend that takes 100 ms, asked through a library that blocks."""
    if not LUA_SOCKET.exists():
        raise LookupError("no LuaSocket for Lua 5.4: apt-get install lua-socket")
    script = HERE / "slow.lua"
    for most in 30, 300:
        config = {"lua": DEBIAN_LUA + f"worker_max = {most}\ntwins = []\n"}
        with Authlua(script, worker=True, config=config) as authlua, Dovecot(script, worker=True) as dovecot:
            pair = (authlua, dovecot)
            for server in pair:  # until all workers are there
                load(server.sockets["client"], c=300, k=1, t=3, x=True)
            runs = {s.name: load(s.sockets["client"], c=300, k=10, w=1, t=max(3, seconds), x=True) for s in pair}
        ours, theirs = runs["authlua"].per_second, runs["Dovecot"].per_second
        yield Row(
            f"100 ms backend through a library that blocks, 3,000 logins at once, `worker_max = {most}`",
            f"{most // 30} times Dovecot's 30 workers",
            f"{ours / theirs:.1f} times ({ours:,.0f}/s, Dovecot {theirs:,.0f}/s)",
            ours >= 0.95 * theirs * most / 30,
        )


def http(seconds: float, rounds: int) -> Iterator[Row]:
    """A backend that takes 100 ms, asked with ``dovecot.http``, the script being the same for both."""
    yield from _behind_http("http.lua", "100 ms HTTP backend")


def luasocket(seconds: float, rounds: int) -> Iterator[Row]:
    """The same backend, asked through LuaSocket: by Dovecot with the module, by authlua with its twin."""
    if not LUA_SOCKET.exists():
        raise LookupError("no LuaSocket for Lua 5.4: apt-get install lua-socket")
    yield from _behind_http("luasocket.lua", "100 ms HTTP backend through LuaSocket", worker=False)
    yield from _behind_http("luasocket.lua", "100 ms HTTP backend through LuaSocket, script in workers", worker=True)


def luasql(seconds: float, rounds: int) -> Iterator[Row]:
    """A statement that takes 100 ms, asked through LuaSQL; authlua has 60 sessions, Dovecot one for each worker."""
    if reason := why_no_mariadb():
        raise LookupError(reason)
    with tempfile.TemporaryDirectory() as directory, mariadb("--max-connections=500") as port:
        script = Path(directory, "luasql.lua")
        script.write_text((HERE / "luasql.lua").read_text().replace("PORT", str(port)))
        with Authlua(script, worker=False) as authlua, Dovecot(script, worker=True) as dovecot:
            ours, theirs = _by_turns(authlua, dovecot, 1)
            yield Row(
                "100 ms SQL statement through LuaSQL, 300 logins at once",
                "≥ 1.8 times Dovecot (60 sessions to 30)",
                f"{ours / theirs:.1f} times ({ours:,.0f}/s, Dovecot with its 30 workers {theirs:,.0f}/s)",
                ours >= 1.8 * theirs,
            )


def _behind_http(name: str, what: str, *, worker: bool = False) -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen([build("backend")], stdout=subprocess.PIPE, text=True) as web,
    ):
        try:
            script = Path(directory, name)
            port = web.stdout.readline().strip() if web.stdout else ""
            script.write_text((HERE / name).read_text().replace("PORT", port))
            with Authlua(script, worker=worker) as authlua, Dovecot(script, worker=True) as dovecot:
                for inflight in 1, 10:
                    ours, theirs = _by_turns(authlua, dovecot, inflight)
                    yield Row(
                        f"{what}, {300 * inflight:,} logins at once",
                        "≥ 10 times Dovecot",
                        f"{ours / theirs:.1f} times ({ours:,.0f}/s, Dovecot with its 30 workers {theirs:,.0f}/s)",
                        ours >= 10 * theirs,
                    )
        finally:
            web.kill()


def _by_turns(authlua: Authlua, dovecot: Dovecot, inflight: int) -> list[float]:
    """Logins a second of each, on 300 connections."""
    seen = []
    for server in (authlua, dovecot):
        run = load(server.sockets["client"], c=300, k=inflight, w=3, t=4, x=True)
        if run.failed:
            raise RuntimeError(f"{server.name}: {run.failed} of {run.replies} logins failed")
        seen.append(run.per_second)
    return seen


def hashes(seconds: float, rounds: int) -> Iterator[Row]:
    """Slow hashes: logins a second, and what the bare library does in as many threads as there are cores.

    The two take turns, each for a short while, as the machine's other work comes and goes; each of the server's is
    compared with the library's just before and just after it. What the load generator takes of the cores, some 10 µs
    a login, counts against the server.
    """
    from authlua.passwords import encode

    for scheme, cost, check in _hashers():
        stored = encode(b"pass", scheme, rounds=cost)
        turn, turns = (max(seconds, 4.0), 4 * rounds) if scheme == "ARGON2ID" else (max(seconds, 1.0), 8 * rounds)
        with _scripted(f"return 1, {{ password = '{stored}' }}") as script, Authlua(script, worker=False) as server:
            ratios, rates = [], []
            before = _on_all_cores(check(stored), turn)
            for _ in range(turns):
                run = load(server.sockets["client"], c=16, k=4, w=turn / 5, t=turn, x=True)
                if run.failed:
                    raise RuntimeError(f"{scheme}: {run.failed} wrong answers")
                after = _on_all_cores(check(stored), turn)
                ratios.append(2 * run.per_second / (before + after))
                rates.append(run.per_second)
                before = after
        low, ratio, high = statistics.quantiles(ratios, n=4)
        yield Row(
            f"{scheme}{f' of cost {cost}' if cost else ''} verification, share of the bare library's rate",
            "≥ 95 %",
            f"{ratio:.1%} ({statistics.median(rates):,.0f} logins/s; half of {turns} turns {low:.0%} to {high:.0%})",
            ratio >= 0.95,
        )


@contextmanager
def _scripted(body: str) -> Iterator[Path]:
    """A script whose passdb answers with *body*, and judges passwords itself if that calls ``password_verify``."""
    with tempfile.TemporaryDirectory(prefix="authlua-bench-") as directory:
        script = Path(directory, "auth.lua")
        script.write_text(
            f"function auth_{'password_verify' if 'password_verify' in body else 'passdb_lookup'}(request, password)"
            f" {body} end\nfunction auth_userdb_lookup() return 1, {{}} end\n"
        )
        yield script


def storm(seconds: float, rounds: int) -> Iterator[Row]:
    """How long logins take that need no hash, while more come for slow hashes than can be computed."""
    from authlua.passwords import encode

    stored = f"request.user:match('^storm') and '{encode(b'pass', 'BLF-CRYPT', rounds=10)}' or '{{PLAIN}}pass'"
    looks_up, verifies = (
        f"return 1, {{ password = {stored} }}",
        f"return request:password_verify({stored}, password), {{}}",
    )
    for body, worker in (looks_up, False), (looks_up, True), (verifies, False), (verifies, True):
        seen, hashed = [], []
        with _scripted(body) as script, Authlua(script, worker=worker) as server:
            for _ in range(rounds):
                length = max(3.0, seconds)
                storms: list[Load] = []
                thread = threading.Thread(
                    target=lambda storms=storms, length=length: storms.append(
                        load(server.sockets["client"], c=8, k=16, u="storm%d@x", t=length + 1, x=True)
                    )
                )
                thread.start()
                run = load(server.sockets["client"], c=50, k=16, w=0.5, t=length, r=STORM_RATE, x=True)
                thread.join()
                if run.failed or not storms or storms[0].failed:
                    raise RuntimeError("wrong answers in the storm")
                seen.append(run.p99)
                hashed.append(storms[0].per_second)
        p99 = statistics.median(seen)
        yield Row(
            f"p99 of {STORM_RATE} `{{PLAIN}}` logins/s in a storm of BLF-CRYPT logins,"
            f" {'verified by a' if body is verifies else 'looked up by a'} script"
            f" {'in workers' if worker else 'in the server'}",
            "≤ 50 ms",
            f"{p99 / 1e3:.1f} ms (worst of {rounds} runs {max(seen) / 1e3:.1f} ms),"
            f" {statistics.median(hashed):,.0f} hashes/s",
            p99 <= 50e3,
        )


def _hashers() -> Iterator[tuple[str, int | None, Callable[[str], Callable[[], object]]]]:
    import argon2.low_level
    import bcrypt

    from authlua.passwords.libcrypt import crypt

    def data(stored: str) -> bytes:
        return stored.partition("}")[2].encode()

    for cost in 5, 10:  # what `doveadm pw` makes, and what most others make
        yield "BLF-CRYPT", cost, lambda stored: lambda: bcrypt.checkpw(b"pass", data(stored))
    kind = argon2.low_level.Type.ID
    yield "ARGON2ID", None, lambda stored: lambda: argon2.low_level.verify_secret(data(stored), b"pass", kind)
    yield "SHA512-CRYPT", None, lambda stored: lambda: crypt(b"pass", data(stored)) == data(stored)


def _on_all_cores(check: Callable[[], object], seconds: float) -> float:
    """How often a second *check* can be done, a thread for each core."""
    rates = [0.0] * (os.cpu_count() or 1)

    def work(number: int) -> None:
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            check()
            count += 1
        rates[number] = count / (time.perf_counter() - begun)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(rates))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def flight(seconds: float, rounds: int) -> Iterator[Row]:
    """A hundred thousand requests at once: all refused and held back; all waiting for workers."""
    count = 100_000
    with Authlua(SCRIPT, worker=False, config={"auth": "penalty = false"}) as server:
        before = memory(server.pid)["Rss"]
        run = load(server.sockets["client"], c=1000, k=100, n=count, t=120, p="wrong", x=True)
        grown = _peak(server.pid) - before
    yield Row(
        "100,000 logins refused at once, each told 2 s later",
        "all are answered",
        f"{run.replies:,} answers in {run.seconds:.1f} s, {grown / count / 1e3:.1f} kB each",
        run.failed == count,
    )
    with Authlua(SCRIPT, worker=True, config={"lua": "timeout = '150s'"}) as server:
        before = memory(server.pid)["Rss"]
        run = load(server.sockets["client"], c=1000, k=100, n=count, t=120, x=True)
        grown = _peak(server.pid) - before
    yield Row(
        "100,000 logins at once, waiting for workers",
        "all are answered",
        f"{run.ok:,} answers in {run.seconds:.1f} s, {grown / count / 1e3:.1f} kB each",
        run.ok == count,
    )


def _peak(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@contextmanager
def _peaks(pids: Iterable[int]) -> Iterator[dict[int, int]]:
    """The most that each process takes meanwhile; a worker that has had much to do ends with its call."""
    peaks = {pid: _peak(pid) for pid in pids}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for pid in peaks:
                with suppress(FileNotFoundError, ProcessLookupError):
                    peaks[pid] = _peak(pid)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def lists(seconds: float, rounds: int) -> Iterator[Row]:
    """A million users, from a script that returns an iterator; and from one that returns them all in a table."""
    for script, worker in ("iterate.lua", False), ("iterate.lua", True), ("list.lua", True):
        with Authlua(HERE / script, worker=worker, config={"lua": "memory_limit = '1G'"}) as server:
            load(server.sockets["master"], q="user", n=100)
            processes = [server.pid, *descendants(server.pid)]
            before = {pid: memory(pid)["Rss"] for pid in processes}
            with _peaks(processes) as peaks:
                run = load(server.sockets["master"], q="list", n=1, t=120)
            grown = sum(max(0, peaks[pid] - before[pid]) for pid in processes)
        kind = "in workers" if worker else "in the server"
        iterates = script == "iterate.lua"
        yield Row(
            f"LIST of 1,000,000 users, {'an iterator' if iterates else 'one table'} in a script {kind}",
            "constant memory" if iterates else "all are listed",
            f"{run.listed:,} users in {run.seconds:.1f} s, {grown / 1e6:.0f} MB more at its peak",
            run.listed == 1_000_000 and (grown < 10e6 or not iterates),
        )


def wild(seconds: float, rounds: int) -> Iterator[Row]:
    """How long others wait while one login after the other, up to 20 a second, goes wild."""
    calm = "500 logins/s on 20 connections"
    with tempfile.TemporaryDirectory() as directory:
        module = Path(directory, "crash")
        module.with_suffix(".c").write_text("int luaopen_crash(void *l) { (void)l; return *(volatile int *)0; }")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", f"{module}.so", f"{module}.c"], check=True)
        limits = f"timeout = '3s'\nmemory_limit = '16M'\ncpath = ['{directory}/?.so']"
        config = {"lua": limits, "auth": "failure_delay = '0s'\ninternal_failure_delay = '0s'\npenalty = false"}
        for worker in False, True:
            acts = {"loop": "loops", "eat": "eats memory", "exit": "calls os.exit", "crash": "crashes in C"}
            acts[""] = "does nothing wrong"
            if not worker:
                del acts["crash"]  # there it would take the server with it
            with Authlua(HERE / "wild.lua", worker=worker, config=config) as server:
                for act, what in acts.items():
                    seen, calls = [], 0
                    for _ in range(rounds):
                        with _one_after_the_other(server.sockets["client"], act) as done:
                            run = load(server.sockets["client"], c=20, k=16, w=0.5, t=max(4, seconds), r=500, x=True)
                        if run.failed:
                            raise RuntimeError(f"{act}: {run.failed} other logins failed")
                        seen.append(run.p99)
                        calls += len(done)
                    p99 = statistics.median(seen)
                    yield Row(
                        f"p99 of others ({calm}) while a script {'in a worker' if worker else 'in the server'} {what}",
                        "≤ 50 ms",
                        f"{p99 / 1e3:.1f} ms" + (f", {calls} such calls" if act else ""),
                        p99 <= 50e3,
                    )


@contextmanager
def _one_after_the_other(path: Path, user: str) -> Iterator[list[bytes]]:
    """Logins of *user*, each when the last one has been answered, 20 a second at most; the answers.

    Nobody for an empty name.
    """
    answers: list[bytes] = []
    stop = threading.Event()

    def run() -> None:
        with RawConnection.connect(path) as client:
            client.handshake(pid=4242)
            response = base64.b64encode(f"\0{user}\0pass".encode()).decode()
            while not stop.wait(0.05):
                number = len(answers) + 1
                answers.extend(client.ask(f"AUTH\t{number}\tPLAIN\tservice=imap\tno-penalty\tresp={response}"))

    thread = threading.Thread(target=run)
    if user:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        if user:
            thread.join()


ROWS: dict[str, Any] = {
    "http": http,
    "luasocket": luasocket,
    "luasql": luasql,
    "slow": slow,
    "hashes": hashes,
    "storm": storm,
    "half": half,
    "sizes": sizes,
    "start": start,
    "flight": flight,
    "lists": lists,
    "wild": wild,
}
