"""Access lines on their way to a descriptor, and the operations log.

`AccessLog` collects lines (`_lines.pyx`) and writes them when 32 KiB are together or a second has passed. It must never
hold up the event loop: a pipe is opened anew as non-blocking (the flag on the inherited description would be shared
with the shell), a socket is sent to with MSG_DONTWAIT. Lines go out in whole multiples of at most PIPE_BUF bytes, so
that those of several workers do not mingle in one pipe. When the reader does not keep up, at most 1 MiB waits; what
comes then is dropped, counted and owned up to.

The operations log is the standard library's `logging`, logger `flyby`; only `server.run` sets it up, an embedding
program keeps its own.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from typing import Protocol

from flyby.log._lines import Lines
from flyby.log.formats import AccessRecord, Formatter, formatter

FLUSH_SECONDS = 1.0

operations = logging.getLogger("flyby")


class Timer(Protocol):
    def cancel(self) -> None: ...


class CallLater(Protocol):
    def __call__(self, delay: float, callback: Callable[[], None], /) -> Timer: ...


class AccessLog:
    """Lines on their way to a descriptor. With the format "off" it takes records and does nothing."""

    __slots__ = ("_call_later", "_fd", "_own_fd", "_socket", "_timer", "_whole", "line", "lines")

    def __init__(self, name: str, call_later: CallLater, fd: int = 1) -> None:
        self._call_later = call_later
        self.lines = Lines()
        self._timer: Timer | None = None
        self._fd = fd
        self._own_fd = False
        self._whole = False
        self._socket: socket.socket | None = None
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            self._whole = True
            # A pipe whose reader has already gone cannot be opened again; writing to the old one tells so at once.
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._own_fd = True
            except OSError:
                self._own_fd = False
        elif stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
        self.use(name)

    @property
    def dropped(self) -> int:
        """Lines that found no room and are still to be owned up to."""
        return self.lines.dropped

    def use(self, name: str) -> None:
        """Write the format `name` from now on; lines already made keep theirs."""
        self.line: Formatter | None = formatter(name) if name != "off" else None
        self.lines.use(name)

    def write(self, record: AccessRecord) -> None:
        """Take one record; the line is written within a second."""
        if self.line is not None:
            self.lines.add(self.line(record))
            self.added()

    def added(self) -> None:
        """Lines were added: see to it that they are written."""
        if self._timer is None:
            self._timer = self._call_later(FLUSH_SECONDS, self._tick)
            self.lines.awaited = True
        if self.lines.due:
            self.flush()

    def _tick(self) -> None:
        self._timer = None
        self.lines.awaited = False
        self.flush()
        if len(self.lines):
            self._timer = self._call_later(FLUSH_SECONDS, self._tick)
            self.lines.awaited = True

    def flush(self) -> None:
        """Write what the descriptor takes now; the rest stays."""
        lines = self.lines
        while len(lines):
            try:
                with memoryview(lines) as view, view[: self._piece(len(view))] as piece:
                    if self._socket is not None:
                        written = self._socket.send(piece, socket.MSG_DONTWAIT)
                    else:
                        written = os.write(self._fd, piece)
            except BlockingIOError:
                lines.wait()
                return
            except OSError as error:
                operations.error("access log: %s; %d bytes of it are lost", error.strerror, len(lines))
                lines.drop(len(lines))
                return
            lines.drop(written)
        if lines.dropped:
            operations.warning("access log: %d lines dropped, its reader was too slow", lines.dropped)
            lines.dropped = 0

    def _piece(self, waiting: int) -> int:
        """How much to write in one call: into a pipe whole lines of at most PIPE_BUF bytes, else everything."""
        return self.lines.whole(select.PIPE_BUF) if self._whole else waiting

    def close(self) -> None:
        """Write what can be written, and let the descriptor go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._own_fd:
            os.close(self._fd)
            self._own_fd = False
        self.use("off")


def set_up_operations_log(role: str) -> None:
    """Send the logger `flyby` to standard error, each line with the time and the process that says it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s flyby[{role}] %(levelname)s %(message)s"))
    operations.handlers[:] = [handler]
    operations.setLevel(logging.INFO)
    operations.propagate = False
