"""The parent of the workers: it restarts the ones that die or hang, passes signals on, and takes new configurations.

    start ─▶ fork demo? ─▶ fork worker 0 … N-1 ─▶ wait for a signal or a time ─┐
                               ▲                                              │
                               ├──── restart (children.py) ◀──────────── CHLD ┤
                               ├──── KILL ◀── no beat for 10 s (pulse.py) ────┤
     everybody has ended, ◀────┴──── TERM to all, sockets closed ◀─ TERM QUIT INT
     or was killed

One thread and no event loop: every signal is blocked from the start and fetched with sigtimedwait, so nothing ever
interrupts the code in between, no handler runs, and a fork copies no lock that somebody holds. It shares with its
children the listening sockets, the cache mapping, the pages of their counters and the page of their pulse, and nothing
else. Should it die, the kernel sends its children TERM (PR_SET_PDEATHSIG).

A worker whose very first life ends with 78 (it found the configuration unusable) ends the whole: no restart would help.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from flyby.config import Config
from flyby.config.remarks import remarks_of
from flyby.config.rules import refuse_to_empty
from flyby.config.shape import spelled
from flyby.errors import ConfigError
from flyby.log import operations
from flyby.server.children import FIRST_DELAY_S, Child, Kernel
from flyby.server.listeners import EX_CONFIG, Listeners
from flyby.server.pulse import BEAT_S, Pulse
from flyby.server.signals import MEANINGLESS, name_of
from flyby.server.tls import Certificates

if TYPE_CHECKING:
    from flyby.store import Store

SILENT_S = 10.0  # a worker that has not beaten for so long hangs, and is killed
START_S = 30.0  # the same before its first beat, while it starts
LONE_DELAY_S = 1.0  # the longest delay of a start while no worker runs
LONG_ENOUGH_S = 5.0  # a demo app that lived for so long has served: it has no pulse
FIXED = (  # what a reload cannot change: sockets, processes and the store are made once
    "server.listen",
    "server.state",
    "server.workers",
    "cache.size",
    "cache.max_object",
    "cache.path",
    "cache.compression",
)
KILL_GRACE_S = 2.0  # what a child gets beyond the drain to end by itself


class Supervisor:
    """Keeps the children alive until a signal says to stop; `run` returns the exit code."""

    __slots__ = (
        "_children",
        "_deadline",
        "_exit_code",
        "_kernel",
        "_listeners",
        "_looked",
        "_pulse",
        "_reload",
        "_store",
        "_told",
        "certificates",
        "config",
        "started",
    )

    def __init__(
        self,
        config: Config,
        children: list[Child],
        *,
        listeners: Listeners,
        store: Store,
        certificates: Certificates,
        pulse: Pulse,
        reload: Callable[[], Config],
        kernel: Kernel,
    ) -> None:
        self.config = config
        self.started = config  # some of its keys are fixed until the end
        self.certificates = certificates
        self._children = children
        self._listeners = listeners
        self._store = store
        self._pulse = pulse
        self._looked = kernel.now()
        self._told: set[int] = set()  # the signals that were said to mean nothing
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
            elif signum is not None and signum in MEANINGLESS:
                self._ignore(signum)
            elif signum is not None and signum != signal.SIGCHLD:
                self._stop(signum)
            # Several children that end together may raise one CHLD; so look for all, whatever woke us.
            while (ended := self._kernel.reap()) is not None:
                self._ended(*ended)
            self._look()
            self._start_due()
            if self._deadline is not None and self._kernel.now() >= self._deadline:
                self._send_all(signal.SIGKILL)
                self._deadline = self._kernel.now() + KILL_GRACE_S
        return self._exit_code

    def _until_next(self) -> float | None:
        times = [child.due for child in self._children if child.due is not None]
        times.append(self._deadline if self._deadline is not None else self._looked + BEAT_S)
        return max(min(times) - self._kernel.now(), 0.0)

    def _start(self, child: Child) -> None:
        child.due = None
        child.lives += 1
        child.born = self._kernel.now()
        child.beats, child.silent_s = 0, 0.0
        if child.index >= 0:
            self._pulse.clear(child.index)
        try:
            child.pid = self._kernel.fork(child.name, child.body)
        except OSError as error:  # no memory or too many processes, for now
            delay = child.backoff.after(False)
            operations.error("%s cannot be started: %s; again in %.1f s", child.name, error.strerror, delay)
            child.due = child.born + delay
            self._hasten(child.born)

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
        served = self._served(child)
        if code == EX_CONFIG and child.lives == 1 and not served:
            self._exit_code = EX_CONFIG
            self._stop(signal.SIGTERM)
            return
        now = self._kernel.now()
        child.due = max(now + child.backoff.after(served), child.born + FIRST_DELAY_S)
        self._hasten(now)
        how = f"by signal {code - 128}" if code > 128 else f"with exit code {code}"
        when = "at once" if served else f"in {child.due - now:.1f} s"
        operations.error("%s (pid %d) ended %s; restart %s", child.name, pid, how, when)

    def _served(self, child: Child) -> bool:
        """Whether the life that has ended was of use."""
        if child.index < 0:
            return self._kernel.now() - child.born >= LONG_ENOUGH_S
        return self._pulse.beats(child.index) > 0

    def _hasten(self, now: float) -> None:
        """While no worker runs, clients wait for the next one: that must not take long."""
        workers = [child for child in self._children if child.index >= 0]
        if not any(child.pid for child in workers):
            for child in workers:
                if child.due is not None:
                    child.due = min(child.due, now + LONE_DELAY_S)

    def _look(self) -> None:
        """Kill each worker that has stopped beating; it ends, and is replaced like any other that has died.

        Only time that passed while we ourselves ran counts against it: after a machine (or all of its processes) stood
        still, everybody is silent and nobody hangs.
        """
        now = self._kernel.now()
        passed = now - self._looked
        if passed < BEAT_S or self._deadline is not None:
            return
        self._looked = now
        for child in self._children:
            if not child.pid or child.index < 0:
                continue
            beats = self._pulse.beats(child.index)
            if beats != child.beats:
                child.beats, child.silent_s = beats, 0.0
                continue
            child.silent_s += min(passed, 2 * BEAT_S)
            most = SILENT_S if beats else START_S
            if child.silent_s >= most:
                child.silent_s = 0.0
                what = "has not answered" if beats else "has not begun to serve"
                operations.error("%s (pid %d) %s for %g s and is killed", child.name, child.pid, what, most)
                self._kernel.kill(child.pid, signal.SIGKILL)

    def _ignore(self, signum: int) -> None:
        if signum not in self._told:
            self._told.add(signum)
            operations.warning("%s means nothing to flyby and is ignored", name_of(signum))

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
            refuse_to_empty(self.config, config)
            remarks = remarks_on(config)
            self.certificates.use(config.server.tls)  # the last that can fail, and it fails as a whole
        except ConfigError as error:
            for problem in error.problems:
                operations.error("%s", problem)
            operations.error("the configuration is not usable, flyby keeps the old one")
            return
        except Exception:
            operations.exception("the reload failed, flyby keeps the old configuration")
            return
        for name in FIXED:
            if _at(self.started, name) != _at(config, name):
                operations.warning("%s has changed; that takes effect at the next start", name)
        self.config = config
        operations.info("configuration reloaded")
        for remark in remarks:
            operations.warning("%s", remark)
        for child in self._children:
            if child.pid and child.index >= 0:
                self._kernel.kill(child.pid, signal.SIGHUP)


def _at(config: Config, name: str) -> object:
    table, _, key = name.partition(".")
    return getattr(getattr(config, table), key)


def remarks_on(config: Config) -> list[str]:
    """What works but should be looked at, a line each."""
    return [
        f"{spelled(each.path)}: {each.message}{f' ({each.hint})' if each.hint else ''}" for each in remarks_of(config)
    ]
