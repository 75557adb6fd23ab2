"""The life of the server: start, signals, reload, stop."""

import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING

import trio

from authlua.auth import Penalty
from authlua.config import Settings, doubts
from authlua.errors import ConfigError
from authlua.secret import Secret
from authlua.server.app import App
from authlua.server.core import Core, Lasting, open_core, uses_workers
from authlua.server.counting import Counts
from authlua.server.listeners import Listener, open_listeners
from authlua.server.metrics import open_counts
from authlua.server.systemd import notify, passed_sockets, watchdog_interval
from authlua.server.token_secret import load_token_secret
from authlua.server.waiting import expire
from authlua.server.watching import watch
from authlua.server.zygote import Zygote
from authlua.services import State, attach, use
from authlua.twins import Waits
from authlua.urls import parse_redis_url

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

Companion = Callable[[App, trio.Event], Awaitable[None]]
"""Runs beside the server; may set the event to stop it."""

STOP_TIMEOUT = 10.0
"""Seconds that open requests get to finish once the server was told to stop."""


def serve(settings: Settings, load: Callable[[], Settings], log: "FilteringBoundLogger") -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        load: reads the configuration anew, for a reload.

    Raises:
        ConfigError: the configuration or a socket is no good; nothing stays bound.
        ScriptError: a script does not load.
    """
    passed = passed_sockets()
    zygote = make_zygote(settings)
    token_secret = load_token_secret(settings.server.base_dir, log)
    lasting = make_lasting(settings, log, token_secret, zygote, make_counts(settings))
    core = open_core(settings, log, lasting)
    tell_doubts(settings, core, log)
    listeners = open_listeners(settings.listeners, passed)
    if settings.server.user:
        become(settings.server.user)
    run(settings, core, listeners, load, log, lasting)


def run(
    settings: Settings,
    core: Core,
    listeners: list[Listener],
    load: Callable[[], Settings],
    log: "FilteringBoundLogger",
    lasting: Lasting,
    companion: Companion | None = None,
) -> None:
    """Run the event loop with what has been opened."""

    def reload() -> Core:
        fresh = load()
        if (fresh.listeners, fresh.server) != (settings.listeners, settings.server):
            log.warning("restart_needed", reason="changes of listeners and of [server] need a restart")
        core = open_core(fresh, log, lasting)
        tell_doubts(fresh, core, log)
        return core

    app = App(settings, core, log, reload)
    app.tally.counts = lasting.counts
    if lasting.state is not None:
        app.state = lasting.state
        app.state.batch_done = app.write_all
        use(app.state)
    app.waits = lasting.waits or Waits()
    try:
        trio.run(partial(_main, app, listeners, companion))
    except Exception:
        log.critical("internal_error", exc_info=True)
        raise


def tell_doubts(settings: Settings, core: Core, log: "FilteringBoundLogger") -> None:
    """Warn of what is configured and cannot have an effect."""
    for doubt in [*doubts(settings), *core.doubts]:
        log.warning("config_doubt", reason=doubt)


def make_counts(settings: Settings) -> Counts | None:
    """What counts, if there is a listener that tells it; raises `ConfigError` when its library is not there."""
    return open_counts() if any(listener.kind == "metrics" for listener in settings.listeners) else None


def make_lasting(
    settings: Settings,
    log: "FilteringBoundLogger",
    token_secret: Secret | None,
    zygote: Zygote | None,
    counts: Counts | None = None,
) -> Lasting:
    """What is kept over reloads, with the state that is shared with other servers."""
    say = {"info": log.info, "warning": log.warning}
    url = settings.state.url
    state = State(
        parse_redis_url(url) if url else None,
        timeout=settings.state.timeout,
        say=lambda level, event, **fields: say[level](event, **fields),
    )
    penalty = Penalty(shared=state if state.shared else None)
    return Lasting(token_secret, penalty, zygote, counts, state, Waits())


def make_zygote(settings: Settings) -> Zygote | None:
    """What workers are forked from, if any script wants them; to be made before anything else is opened.

    What has been imported by then stays, so no collection of garbage, here or in a worker, need look at it again.
    """
    gc.freeze()
    return Zygote() if uses_workers(settings) or settings.mail.script is not None else None


def become(user: str) -> None:
    """Give up root for *user*, for good.

    Raises:
        ConfigError: there is no such user.
    """
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError([f"server.user: no such user: {user}"]) from None
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


async def _main(app: App, listeners: list[Listener], companion: Companion | None) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        app.tasks = nursery
        attach(app.ready, app.write_all)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2) as signals:
            nursery.start_soon(_obey, app, signals, stop)
            nursery.start_soon(app.ready.run)
            nursery.start_soon(expire, app.waits, app.ready, app.write_all, app.request_timeout)
            nursery.start_soon(app.failures.run)
            nursery.start_soon(app.expiry.run)
            nursery.start_soon(app.hasher.run)
            nursery.start_soon(_watchdog)
            nursery.start_soon(watch, app)
            app.start_workers()
            if companion is not None:
                nursery.start_soon(companion, app, stop)
            for listener in listeners:
                listener.start(app)
            log_ready(app, listeners)
            await stop.wait()
            notify("STOPPING=1")
            app.log.info("stopping")
            for listener in listeners:
                listener.stop()
            app.failures.flush()
            with trio.move_on_after(STOP_TIMEOUT):
                while not app.idle:
                    await trio.sleep(0.02)
                    app.failures.flush()
        app.close()
        nursery.cancel_scope.cancel()
    app.end()
    app.log.info("stopped")


def log_ready(app: App, listeners: list[Listener]) -> None:
    """Say that the server is there, and where."""
    for listener in listeners:
        app.log.info("listening", kind=listener.settings.kind, at=listener.name)
    app.log.info("ready", pid=app.spid, dialect=str(app.dialect))
    notify("READY=1", f"STATUS=serving {len(listeners)} sockets")


async def _obey(app: App, signals: AsyncIterator[int], stop: trio.Event) -> None:
    async for number in signals:
        if number == signal.SIGHUP:
            app.tasks.start_soon(_reload, app)
        elif number == signal.SIGUSR2:
            app.tell_cache()
        else:
            stop.set()


async def _reload(app: App) -> None:
    notify("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")
    error = await app.reload()
    notify("READY=1", f"STATUS={'reloaded' if error is None else 'reload failed, the old scripts serve on'}")


async def _watchdog() -> None:
    interval = watchdog_interval()
    while interval is not None:
        notify("WATCHDOG=1")
        await trio.sleep(interval)
