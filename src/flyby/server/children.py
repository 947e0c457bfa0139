"""The supervisor's children: a place for each, what to do when a life ends, and what is asked of the system for it.

    waiting ──due──▶ running ──ended──▶ it had served? ──yes──▶ again at once (0.1 s after its birth, at the earliest)
       ▲                                     └──no──▶ again after 0.1 s, twice as long each time, up to 10 s ──┐
       └───────────────────────────────────────────────────────────────────────────────────────────────────────┘

A worker that served and then died (killed for want of memory, say) has not failed to start: waiting would only leave
its clients without an answer. One that never serves is started less and less.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Protocol

from flyby.log import operations, set_up_operations_log
from flyby.server.signals import WATCHED
from flyby.server.worker import EX_SOFTWARE

FIRST_DELAY_S = 0.1  # also the least time between two births in one place, whatever it did between them
LONGEST_DELAY_S = 10.0

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class Backoff:
    """How long to wait before the next start of a child. Pure: it is told whether the last life was of use."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = FIRST_DELAY_S

    def after(self, served: bool) -> float:
        """The delay after a life; one that served makes up for all before it that did not."""
        if served:
            self._next = FIRST_DELAY_S
            return 0.0
        delay = self._next
        self._next = min(delay * 2, LONGEST_DELAY_S)
        return delay


class Child:
    """One place for a process: the one that runs now, or when the next one is due.

    `beats` is how often it had beaten when it was last looked at, `silent_s` how long it has not beaten since.
    """

    __slots__ = ("backoff", "beats", "body", "born", "due", "index", "lives", "name", "pid", "silent_s")

    def __init__(self, name: str, body: Callable[[], int], index: int = -1) -> None:
        self.name = name
        self.body = body
        self.index = index  # of a worker; -1 for the demo app
        self.pid = 0
        self.lives = 0
        self.born = 0.0
        self.due: float | None = None
        self.backoff = Backoff()
        self.beats = 0
        self.silent_s = 0.0

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.pid else f"due {self.due}"
        return f"<Child {self.name} {state}, life {self.lives}>"


class Kernel(Protocol):
    """The five things that the supervisor asks of the system; a test answers them by hand."""

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
            return signal.sigwaitinfo(WATCHED).si_signo
        found = signal.sigtimedwait(WATCHED, max(timeout, 0.0))
        return None if found is None else found.si_signo

    def fork(self, name: str, body: Callable[[], int]) -> int:
        _flush()
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
                _flush()
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


def _flush() -> None:
    """Write out what the standard streams still hold; a full disk or a reader that has gone is no reason to end."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _follow(parent: int, name: str) -> None:
    """Bind this process's life to its parent's, and give it a name for ps and top."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    if os.getppid() != parent:  # it died before the first line took effect
        os._exit(EX_SOFTWARE)
