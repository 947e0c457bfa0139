"""`run`: everything that is made before the first fork, in its order, and the supervisor's start.

    signals blocked ─▶ streams ─▶ backends of the state ─▶ certificates ─▶ listeners ─▶ store ─▶ fork, banner, supervise

What cannot be had is one line in the log and an exit code of sysexits; nothing is forked before all of it stands.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from flyby.config import Backend, Config
from flyby.control import DATABASE, BackendRecord, State
from flyby.demo import Demo
from flyby.errors import ConfigError, StateError, StoreError
from flyby.log import operations, set_up_operations_log
from flyby.metrics import Pages
from flyby.server.banner import banner
from flyby.server.children import Child, Processes
from flyby.server.descriptors import raise_limit
from flyby.server.listeners import EX_CONFIG, BindError, Listeners, open_listeners
from flyby.server.pulse import Pulse
from flyby.server.signals import WATCHED
from flyby.server.supervisor import Supervisor, remarks_on
from flyby.server.tls import Certificates
from flyby.server.worker import EdgeFactory, work
from flyby.store import Store

DemoWanted = Literal["yes", "alone", "no"]


def run(
    config: Config,
    *,
    demo: DemoWanted = "no",
    reload: Callable[[], Config] | None = None,
    edge: EdgeFactory | None = None,
) -> int:
    """Serve until a signal says to stop; the process's exit code (sysexits).

    `demo` says whether the built-in demo app is the backend of a configuration that names none: "yes", "alone" only if
    the control state has none either, or "no". `reload` gives the configuration again, or raises ConfigError; without
    it HUP keeps what there is. `edge` makes what a worker runs, by default `flyby.server.edge.Edge`.
    """
    # First of all: a signal that comes during the start must wait for the loop, not kill half a family.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    closed = _open_standard_streams()
    set_up_operations_log("supervisor")
    if "stdout" in closed:
        operations.warning("standard output is closed: the access log is lost")
    # All that a worker runs is imported before the fork, once, for all of them; a stub edge needs not all of it.
    from flyby.server.cache import open_store

    if edge is None:
        from flyby.server.edge import Edge

        edge = Edge
    workers = len(os.sched_getaffinity(0)) if config.server.workers == "auto" else config.server.workers
    app: Demo | None = None
    try:
        known = _backends_of_state(config)
        app = Demo.open() if config.empty and (demo == "yes" or (demo == "alone" and not known)) else None
        config = _fronting(config, app)
        certificates = Certificates(config.server.tls)
        listeners = open_listeners(config.server.listen, workers)
        store = open_store(config.cache, workers)
        pages = Pages(workers)
    except ConfigError as error:
        for problem in error.problems:
            operations.error("%s", problem)
        return EX_CONFIG
    except (BindError, StateError, StoreError) as error:
        operations.error("%s", error)
        return error.exit_code
    raise_limit()
    for remark in remarks_on(config):
        operations.warning("%s", remark)
    if config.empty and not known:
        operations.warning("no backend is configured yet: every request is answered with 404 until one is added")

    read = reload if reload is not None else lambda: config

    def reread() -> Config:
        return _fronting(read(), app)

    children: list[Child] = []
    if app is not None:
        children.append(Child("demo", app.serve))
    pulse = Pulse(workers)
    supervisor = Supervisor(
        config,
        children,
        listeners=listeners,
        store=store,
        certificates=certificates,
        pulse=pulse,
        reload=reread,
        kernel=Processes(),
    )
    for index in range(workers):
        body = _body(supervisor, edge, listeners, store, pulse, pages, index, reread)
        children.append(Child(f"worker-{index}", body, index))
    gc.collect()
    gc.freeze()  # a collection in a child must not touch, and so copy, the pages that it shares with us
    supervisor.start()
    with contextlib.suppress(OSError, ValueError):  # nobody reads it: that is no reason not to serve
        sys.stderr.write(banner(config, listeners.urls, workers, known, demo=app is not None))
        sys.stderr.flush()
    code = supervisor.run()
    store.close()
    operations.info("stopped")
    return code


def _open_standard_streams() -> list[str]:
    """Fill the places of streams that are closed; their names in `sys`.

    Else the next socket would take such a place, and get the access log.
    """
    closed = []
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the kernel gives the lowest that is free, which is this one
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", closefd=False))
            closed.append(name)
    return closed


def _body(
    supervisor: Supervisor,
    edge: EdgeFactory,
    listeners: Listeners,
    store: Store,
    pulse: Pulse,
    pages: Pages,
    index: int,
    reload: Callable[[], Config],
) -> Callable[[], int]:
    def body() -> int:
        # Configuration and certificates are the supervisor's at the time of the fork: a restarted worker has the newest
        # that were sound.
        return work(
            supervisor.config,
            edge=edge,
            store=store,
            sockets=listeners.keep_only(index),
            certificates=supervisor.certificates,
            index=index,
            pulse=pulse,
            pages=pages,
            reload=reload,
        )

    return body


def _backends_of_state(config: Config) -> list[BackendRecord]:
    """The backends in the control state at this moment; `StateError` when there is one that cannot be used."""
    if config.server.state is None or not Path(config.server.state, DATABASE).exists():
        return []
    with State.open(
        config.server.state, create=False
    ) as state:  # closed before any fork: each worker opens it for itself
        return state.backends()


def _fronting(config: Config, demo: Demo | None) -> Config:
    """The configuration with the demo app as its backend, where it names none."""
    if demo is None or not config.empty:
        return config
    return replace(config, backends={"demo": Backend(origins=[demo.origin])})
