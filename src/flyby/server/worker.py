"""One worker process: an event loop around one `Edge`, and the signals that the supervisor sends it.

TERM drains: no more connections are accepted, in-flight responses finish within `server.timeouts.drain_s`, then the
process ends. HUP reads the configuration again. INT and QUIT are ignored: a terminal sends them to the whole process
group, and the supervisor decides what they mean. The process is born with all of these blocked, and unblocks them
when the handlers stand, so that none is lost in between. From then on it beats (`pulse.py`), so that the supervisor
sees that its loop turns. Signals without a meaning stay blocked.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

import uvloop

from flyby.config import Config
from flyby.errors import ConfigError
from flyby.log import AccessLog, operations
from flyby.metrics import Metrics, Pages
from flyby.server.listeners import EX_CONFIG
from flyby.server.pulse import BEAT_S, Pulse
from flyby.server.signals import SIGNALS
from flyby.server.tls import Certificates

if TYPE_CHECKING:
    from flyby.store import Store

EX_SOFTWARE = 70


class RunningEdge(Protocol):
    """What a worker needs of an Edge once it runs."""

    async def reload(self, config: Config) -> None: ...

    async def drain(self, timeout: float) -> None: ...


class EdgeFactory(Protocol):
    """What makes one: the class `Edge`, or in the supervisor's tests a stub."""

    def __call__(
        self,
        config: Config,
        *,
        store: Store,
        sockets: Sequence[socket.socket],
        certificates: Certificates,
        worker: int,
        access_log: AccessLog,
        metrics: Metrics,
    ) -> AbstractAsyncContextManager[RunningEdge]: ...


def work(
    config: Config,
    *,
    edge: EdgeFactory,
    store: Store,
    sockets: Sequence[socket.socket],
    certificates: Certificates,
    index: int,
    pulse: Pulse,
    pages: Pages,
    reload: Callable[[], Config],
) -> int:
    """Run worker `index` until it is told to stop; the process's exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    store.join(index)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            metrics = pages.of(index)
            runner.run(_serve(config, edge, store, sockets, certificates, index, pulse, metrics, reload))
    except ConfigError as error:
        for problem in error.problems:
            operations.error("%s", problem)
        return EX_CONFIG
    except Exception:
        operations.exception("the worker failed")
        return EX_SOFTWARE
    return os.EX_OK


async def _serve(
    config: Config,
    edge: EdgeFactory,
    store: Store,
    sockets: Sequence[socket.socket],
    certificates: Certificates,
    index: int,
    pulse: Pulse,
    metrics: Metrics,
    reload: Callable[[], Config],
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    again = asyncio.Event()
    access_log = AccessLog(config.server.log, loop.call_later)
    try:
        async with edge(
            config,
            store=store,
            sockets=sockets,
            certificates=certificates,
            worker=index,
            access_log=access_log,
            metrics=metrics,
        ) as running:
            # What lives now lives as long as the process: the collector need never look at it again.
            gc.collect()
            gc.freeze()
            # Requests come and go by hundreds at a time; what they leave in cycles is little, and can wait.
            gc.set_threshold(20_000, 20, 20)
            loop.add_signal_handler(signal.SIGTERM, stop.set)
            loop.add_signal_handler(signal.SIGHUP, again.set)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            _beat(pulse, index)
            current = _Current(config)
            reloader = loop.create_task(_reloads(again, running, reload, access_log, current))
            await stop.wait()
            reloader.cancel()
            await running.drain(current.config.server.timeouts.drain_s)
    finally:
        access_log.close()


def _beat(pulse: Pulse, index: int) -> None:
    """Count now and from now on, for as long as the loop turns."""
    pulse.beat(index)
    asyncio.get_running_loop().call_later(BEAT_S, _beat, pulse, index)


class _Current:
    """The configuration in use, shared by the reloader and the drain."""

    __slots__ = ("config",)

    def __init__(self, config: Config) -> None:
        self.config = config


async def _reloads(
    again: asyncio.Event, running: RunningEdge, reload: Callable[[], Config], access_log: AccessLog, current: _Current
) -> None:
    """Take up a new configuration each time that `again` is set; whatever is wrong with it, the old one stays."""
    while True:
        await again.wait()
        again.clear()
        try:
            config = reload()
            await running.reload(config)
        except ConfigError as error:
            for problem in error.problems:
                operations.error("%s", problem)
            operations.error("the configuration is not usable, the worker keeps the old one")
        except Exception:
            operations.exception("the reload failed, the worker keeps the old configuration")
        else:
            access_log.use(config.server.log)
            current.config = config
