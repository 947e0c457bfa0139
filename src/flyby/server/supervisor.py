"""The parent of the workers: opens the sockets and the store, forks, restarts who dies, passes signals on.

    run ─▶ listeners ─▶ store ─▶ fork demo? ─▶ fork worker 0 … N-1 ─▶ wait for a signal or a time ─┐
                                                     ▲                                            │
                                                     └──── restart after a delay ◀── CHLD ────────┤
            everybody has ended, or was killed ◀── TERM to all, sockets closed ◀── TERM QUIT INT ─┘

One thread and no event loop: every signal is blocked from the start and fetched with sigtimedwait, so nothing ever
interrupts the code in between, no handler runs, and a fork copies no lock that somebody holds. It shares with its
children the listening sockets and the cache mapping, and nothing else. Should it die, the kernel sends its children
TERM (PR_SET_PDEATHSIG).

A child that ends is restarted at once, unless it lived less than 5 s: then after 0.1 s, and twice as long each time,
up to 10 s. A worker whose very first life ends with 78 (it found the configuration unusable) ends the whole: no
restart would help.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from flyby.config import Backend, Config
from flyby.control import DATABASE, BackendRecord, State
from flyby.demo import Demo
from flyby.errors import ConfigError, Problem, StateError, StoreError
from flyby.log import operations, set_up_operations_log
from flyby.server.banner import banner
from flyby.server.descriptors import raise_limit
from flyby.server.listeners import EX_CONFIG, BindError, Listeners, open_listeners
from flyby.server.tls import Certificates
from flyby.server.worker import EX_SOFTWARE, SIGNALS, EdgeFactory, work

if TYPE_CHECKING:
    from flyby.store import Store

SHORT_LIFE_S = 5.0  # who ends sooner than this after its start has failed to start
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
KILL_GRACE_S = 2.0  # what a child gets beyond the drain to end by itself

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class Backoff:
    """How long to wait before the next start of a child. Pure: it is told how long the last life was."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = FIRST_DELAY_S

    def after(self, lived_s: float) -> float:
        """The delay after a life of `lived_s` seconds; a long one makes up for all the short ones before."""
        if lived_s >= SHORT_LIFE_S:
            self._next = FIRST_DELAY_S
            return 0.0
        delay = self._next
        self._next = min(delay * 2, LONGEST_DELAY_S)
        return delay


class Child:
    """One place for a process: who is in it now, or when the next one is due."""

    __slots__ = ("backoff", "body", "born", "due", "index", "lives", "name", "pid")

    def __init__(self, name: str, body: Callable[[], int], index: int = -1) -> None:
        self.name = name
        self.body = body
        self.index = index  # of a worker; -1 for the demo app
        self.pid = 0
        self.lives = 0
        self.born = 0.0
        self.due: float | None = None
        self.backoff = Backoff()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.pid else f"due {self.due}"
        return f"<Child {self.name} {state}, life {self.lives}>"


class Kernel(Protocol):
    """The four things that the supervisor asks of the system; a test answers them by hand."""

    def now(self) -> float: ...

    def wait(self, timeout: float | None) -> int | None:
        """The next signal, or None when `timeout` seconds have passed."""

    def fork(self, name: str, body: Callable[[], int]) -> int:
        """Run `body` in a new process, which ends with what it returns; the process's id."""

    def reap(self) -> tuple[int, int] | None:
        """A child that has ended, and its exit code (128 + n: by signal n); None when there is none."""

    def kill(self, pid: int, signum: int) -> None: ...


class Processes:
    """The real kernel."""

    __slots__ = ("_parent",)

    def __init__(self) -> None:
        self._parent = os.getpid()

    def now(self) -> float:
        return time.monotonic()

    def wait(self, timeout: float | None) -> int | None:
        if timeout is None:
            return signal.sigwaitinfo(SIGNALS).si_signo
        found = signal.sigtimedwait(SIGNALS, max(timeout, 0.0))
        return None if found is None else found.si_signo

    def fork(self, name: str, body: Callable[[], int]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = EX_SOFTWARE
        try:
            _follow(self._parent, f"flyby-{name}")
            set_up_operations_log(name)
            code = body()
        except BaseException:
            operations.exception("%s failed", name)
        finally:
            # Never back into the parent's stack: what stands above this frame belongs to the supervisor.
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def reap(self) -> tuple[int, int] | None:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if not pid:
            return None
        code = os.waitstatus_to_exitcode(status)
        return pid, code if code >= 0 else 128 - code

    def kill(self, pid: int, signum: int) -> None:
        os.kill(pid, signum)


def _follow(parent: int, name: str) -> None:
    """Bind this process's life to its parent's, and give it a name for ps and top."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    if os.getppid() != parent:  # it died before the first line took effect
        os._exit(EX_SOFTWARE)


class Supervisor:
    """Keeps the children alive until a signal says to stop; `run` returns the exit code."""

    __slots__ = (
        "_children", "_deadline", "_exit_code", "_kernel", "_listeners", "_reload", "_store", "certificates", "config"
    )  # fmt: skip

    def __init__(
        self,
        config: Config,
        children: list[Child],
        *,
        listeners: Listeners,
        store: Store,
        certificates: Certificates,
        reload: Callable[[], Config],
        kernel: Kernel,
    ) -> None:
        self.config = config
        self.certificates = certificates
        self._children = children
        self._listeners = listeners
        self._store = store
        self._reload = reload
        self._kernel = kernel
        self._deadline: float | None = None  # set when draining: who still lives then is killed
        self._exit_code = os.EX_OK

    def __repr__(self) -> str:
        state = "draining" if self._deadline is not None else "running"
        return f"<Supervisor {state}, {sum(1 for child in self._children if child.pid)} of {len(self._children)} up>"

    def start(self) -> None:
        """Start every child, in order: the demo app before the workers that front it."""
        for child in self._children:
            self._start(child)

    def run(self) -> int:
        """Wait for signals and times until every child has ended after a drain."""
        while self._deadline is None or any(child.pid for child in self._children):
            signum = self._kernel.wait(self._until_next())
            if signum == signal.SIGHUP:
                self._take_new_config()
            elif signum is not None and signum != signal.SIGCHLD:
                self._stop(signum)
            # Several children that end together may raise one CHLD; so look for all, whatever woke us.
            while (ended := self._kernel.reap()) is not None:
                self._ended(*ended)
            self._start_due()
            if self._deadline is not None and self._kernel.now() >= self._deadline:
                self._send_all(signal.SIGKILL)
                self._deadline = self._kernel.now() + KILL_GRACE_S
        return self._exit_code

    def _until_next(self) -> float | None:
        times = [child.due for child in self._children if child.due is not None]
        if self._deadline is not None:
            times.append(self._deadline)
        return max(min(times) - self._kernel.now(), 0.0) if times else None

    def _start(self, child: Child) -> None:
        child.due = None
        child.lives += 1
        child.born = self._kernel.now()
        child.pid = self._kernel.fork(child.name, child.body)

    def _start_due(self) -> None:
        now = self._kernel.now()
        for child in self._children:
            if child.due is not None and child.due <= now:
                self._start(child)

    def _ended(self, pid: int, code: int) -> None:
        child = next((each for each in self._children if each.pid == pid), None)
        if child is None:
            return  # not ours: a process that we inherited by exec
        child.pid = 0
        if child.index >= 0:
            # Locks, pins and half-written objects of the dead are given back before anybody takes its place.
            self._store.sweep(child.index)
        if self._deadline is not None:
            self._stop_demo_when_alone()
            return
        lived = self._kernel.now() - child.born
        if code == EX_CONFIG and child.lives == 1 and lived < SHORT_LIFE_S:
            self._exit_code = EX_CONFIG
            self._stop(signal.SIGTERM)
            return
        delay = child.backoff.after(lived)
        how = f"by signal {code - 128}" if code > 128 else f"with exit code {code}"
        operations.error("%s (pid %d) ended %s; restart in %.1f s", child.name, pid, how, delay)
        child.due = self._kernel.now() + delay

    def _stop(self, signum: int) -> None:
        if self._deadline is not None:
            if signum == signal.SIGINT:
                operations.warning("stopping at once")
                self._send_all(signal.SIGKILL)
            return
        drain_s = self.config.server.timeouts.drain_s
        operations.info("%s: draining, for at most %g s", signal.Signals(signum).name, drain_s)
        self._deadline = self._kernel.now() + drain_s + KILL_GRACE_S
        # With the last copy of a socket closed, new connections are refused rather than left to wait for nobody.
        self._listeners.close()
        for child in self._children:
            child.due = None
            if child.pid and child.index >= 0:
                self._kernel.kill(child.pid, signal.SIGTERM)
        self._stop_demo_when_alone()

    def _stop_demo_when_alone(self) -> None:
        """The demo app answers the draining workers, so it stops last."""
        if not any(child.pid for child in self._children if child.index >= 0):
            self._send_all(signal.SIGTERM)

    def _send_all(self, signum: int) -> None:
        for child in self._children:
            if child.pid:
                self._kernel.kill(child.pid, signum)

    def _take_new_config(self) -> None:
        """Validate here, once; only then do the workers read it too. A faulty one changes nothing."""
        try:
            config = self._reload()
            self.certificates.use(config.server.tls)
        except ConfigError as error:
            for problem in error.problems:
                operations.error("%s", problem)
            operations.error("the configuration is not usable, flyby keeps the old one")
            return
        for name, old, new in (
            ("server.listen", self.config.server.listen, config.server.listen),
            ("server.state", self.config.server.state, config.server.state),
            ("server.workers", self.config.server.workers, config.server.workers),
            ("cache.size", self.config.cache.size, config.cache.size),
            ("cache.max_object", self.config.cache.max_object, config.cache.max_object),
            ("cache.path", self.config.cache.path, config.cache.path),
            ("cache.compression", self.config.cache.compression, config.cache.compression),
        ):
            if old != new:
                operations.warning("%s has changed; that takes effect at the next start", name)
        self.config = config
        operations.info("configuration reloaded")
        _remark(self.certificates)
        for child in self._children:
            if child.pid and child.index >= 0:
                self._kernel.kill(child.pid, signal.SIGHUP)


def run(
    config: Config,
    *,
    reload: Callable[[], Config] | None = None,
    edge: EdgeFactory | None = None,
) -> int:
    """Serve until a signal says to stop; the process's exit code (sysexits).

    `reload` gives the configuration again, or raises ConfigError; without it HUP keeps what there is. `edge` makes
    what a worker runs, by default `flyby.server.edge.Edge`.
    """
    # First of all: a signal that comes during the start must wait for the loop, not kill half a family.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    set_up_operations_log("supervisor")
    # All that a worker runs is imported before the fork, once, for all of them; a stub edge needs not all of it.
    from flyby.server.cache import open_store

    if edge is None:
        from flyby.server.edge import Edge

        edge = Edge
    workers = len(os.sched_getaffinity(0)) if config.server.workers == "auto" else config.server.workers
    demo: Demo | None = None
    try:
        known = _backends_of_state(config)
        demo = Demo.open() if config.demo and not known else None
        config = _fronting(config, demo, bool(known))
        certificates = Certificates(config.server.tls)
        listeners = open_listeners(config.server.listen, workers)
        store = open_store(config.cache, workers)
    except ConfigError as error:
        for problem in error.problems:
            operations.error("%s", problem)
        return EX_CONFIG
    except (BindError, StateError) as error:
        operations.error("%s", error)
        return error.exit_code
    except StoreError as error:
        operations.error("%s", error)
        return error.exit_code
    raise_limit()
    _remark(certificates)

    read = reload if reload is not None else lambda: config

    def reread() -> Config:
        return _fronting(read(), demo, bool(known))

    children: list[Child] = []
    if demo is not None:
        children.append(Child("demo", demo.serve))
    supervisor = Supervisor(
        config,
        children,
        listeners=listeners,
        store=store,
        certificates=certificates,
        reload=reread,
        kernel=Processes(),
    )
    for index in range(workers):
        children.append(Child(f"worker-{index}", _body(supervisor, edge, listeners, store, index, reread), index))
    gc.collect()
    gc.freeze()  # a collection in a child must not touch, and so copy, the pages that it shares with us
    supervisor.start()
    sys.stdout.write(banner(config, listeners.urls, workers, known, demo=demo is not None))
    sys.stdout.flush()
    code = supervisor.run()
    store.close()
    return code


def _body(
    supervisor: Supervisor,
    edge: EdgeFactory,
    listeners: Listeners,
    store: Store,
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
            reload=reload,
        )

    return body


def _remark(certificates: Certificates) -> None:
    for remark in certificates.remarks:
        operations.warning("%s", remark)


def _backends_of_state(config: Config) -> list[BackendRecord]:
    """The backends in the control state at this moment; `StateError` when there is one that cannot be used."""
    if config.server.state is None or not Path(config.server.state, DATABASE).exists():
        return []
    with State.open(
        config.server.state, create=False
    ) as state:  # closed before any fork: each worker opens it for itself
        return state.backends()


def _fronting(config: Config, demo: Demo | None, known: bool) -> Config:
    """The configuration with the demo app as its backend, where none is named.

    `known` says that the control state had backends at the start: then they are what is served.
    """
    if not config.demo or (demo is None and known):
        return config
    if demo is None:
        hint = "name an origin, or restart flyby to serve the demo app"
        raise ConfigError([Problem("", 0, 0, "no backend is configured any more", hint)])
    return replace(config, backends={"demo": Backend(origins=[demo.origin])})
