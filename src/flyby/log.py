"""The two logs: one access line a request on standard output, and what the operator must know on standard error.

An `AccessRecord` is filled while a request runs; `formatter(name)` gives the function that makes one line of it. What
came over the wire stays bytes and is escaped here, once: no byte outside printable ASCII, no quote and no backslash of
a client's reaches a log unescaped, so that nobody can forge a line or drive the reader's terminal.

`AccessLog` collects lines and writes them when 32 KiB are together or a second has passed. It must never hold up the
event loop: a pipe is opened anew as non-blocking (the flag on the inherited description would be shared with the
shell), a socket is sent to with MSG_DONTWAIT. Lines go out in whole multiples of at most PIPE_BUF bytes, so that those
of several workers do not mingle in one pipe. When the reader does not keep up, at most 1 MiB waits; what comes then is
dropped, counted and owned up to.

The operations log is the standard library's `logging`, logger `flyby`; only `server.run` sets it up, an embedding
program keeps its own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FORMATS = ("console", "combined", "json", "logfmt", "heroku", "off")
FLUSH_BYTES = 32 * 1024
FLUSH_SECONDS = 1.0
MAX_WAITING = 1024 * 1024

operations = logging.getLogger("flyby")


@dataclass(slots=True)
class AccessRecord:
    """One request, told when its last byte was sent or its connection lost. Negative times mean: did not happen."""

    time_ms: int = 0  # wall clock when the record was made
    method: bytes = b""
    scheme: bytes = b""
    host: bytes = b""
    path: bytes = b""
    version: int = 11
    status: int = 0
    bytes_sent: int = 0  # of the body, as framed
    duration_ms: float = 0.0
    client: str = ""
    request_id: bytes = b""
    outcome: str = ""
    reason: str = ""
    backend: str = ""
    connect_ms: float = -1.0
    first_byte_ms: float = -1.0
    user_agent: bytes = b""
    referer: bytes = b""


Formatter = Callable[[AccessRecord], bytes]

_UNSAFE = re.compile(rb'[^\x20-\x7e]|["\\]')
_NOT_BARE = re.compile(rb'[^\x21-\x7e]|["\\=]')


def _escaped_byte(match: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % match[0][0]


def escape(value: bytes) -> bytes:
    """Wire bytes as printable ASCII that can stand between double quotes: the rest is \\xHH, as nginx writes it."""
    return _UNSAFE.sub(_escaped_byte, value) if _UNSAFE.search(value) else value


def _word(value: bytes) -> bytes:
    """A logfmt value: bare where that is clear, quoted where it is not."""
    return b'"%s"' % escape(value) if not value or _NOT_BARE.search(value) else value


class _Stamp:
    """A formatted second, kept until the next one: most requests of a busy second share it."""

    __slots__ = ("_format", "_second", "_text")

    def __init__(self, pattern: str) -> None:
        self._format = pattern
        self._second = -1
        self._text = b""

    def __call__(self, time_ms: int) -> bytes:
        second = time_ms // 1000
        if second != self._second:
            self._second = second
            self._text = time.strftime(self._format, time.gmtime(second)).encode()
        return self._text


def _size(count: int) -> bytes:
    if count < 1000:
        return b"%d B" % count
    if count < 1_000_000:
        return b"%.1f kB" % (count / 1000)
    return b"%.1f MB" % (count / 1_000_000)


def _console() -> Formatter:
    stamp = _Stamp("%H:%M:%S")

    def line(record: AccessRecord) -> bytes:
        reason = f" ({record.reason})" if record.reason else ""
        return b"%s %3d %-11s %-4s %s%s  %.1f ms  %s  %s%s\n" % (
            stamp(record.time_ms),
            record.status,
            escape(record.outcome.encode()),
            escape(record.method),
            escape(record.host),
            escape(record.path),
            record.duration_ms,
            _size(record.bytes_sent),
            escape(record.client.encode()),
            escape(reason.encode()),
        )

    return line


def _combined() -> Formatter:
    stamp = _Stamp("%d/%b/%Y:%H:%M:%S +0000")

    def line(record: AccessRecord) -> bytes:
        return b'%s - - [%s] "%s %s HTTP/%d.%d" %d %d "%s" "%s"\n' % (
            escape(record.client.encode()) or b"-",
            stamp(record.time_ms),
            escape(record.method),
            escape(record.path),
            record.version // 10,
            record.version % 10,
            record.status,
            record.bytes_sent,
            escape(record.referer) or b"-",
            escape(record.user_agent) or b"-",
        )

    return line


def _instant(stamp: _Stamp, time_ms: int) -> bytes:
    return b"%s.%03dZ" % (stamp(time_ms), time_ms % 1000)


def _pairs(record: AccessRecord) -> list[tuple[str, bytes | int | float]]:
    """The fields that the two structured formats share, in the order they are written; empty ones are left out."""
    found: list[tuple[str, bytes | int | float]] = [
        ("method", record.method),
        ("scheme", record.scheme),
        ("host", record.host),
        ("path", record.path),
        ("version", b"%d.%d" % divmod(record.version, 10)),
        ("status", record.status),
        ("bytes", record.bytes_sent),
        ("duration_ms", round(record.duration_ms, 3)),
        ("client", record.client.encode()),
        ("request_id", record.request_id),
        ("outcome", record.outcome.encode()),
        ("reason", record.reason.encode()),
        ("backend", record.backend.encode()),
        ("user_agent", record.user_agent),
        ("referer", record.referer),
    ]
    for name, value in (("connect_ms", record.connect_ms), ("first_byte_ms", record.first_byte_ms)):
        if value >= 0:
            found.append((name, round(value, 3)))
    return [(name, value) for name, value in found if value != b""]


def _json() -> Formatter:
    stamp = _Stamp("%Y-%m-%dT%H:%M:%S")
    # ASCII only, so that C1 controls are escaped too; bytes that are no UTF-8 stay visible as \xHH.
    encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

    def line(record: AccessRecord) -> bytes:
        fields: dict[str, str | int | float] = {"time": _instant(stamp, record.time_ms).decode()}
        for name, value in _pairs(record):
            fields[name] = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        return encode(fields).encode() + b"\n"

    return line


def _logfmt() -> Formatter:
    stamp = _Stamp("%Y-%m-%dT%H:%M:%S")

    def line(record: AccessRecord) -> bytes:
        parts = [b"time=" + _instant(stamp, record.time_ms)]
        for name, value in _pairs(record):
            text = _word(value) if isinstance(value, bytes) else str(value).encode()
            parts.append(name.encode() + b"=" + text)
        return b" ".join(parts) + b"\n"

    return line


def _milliseconds(value: float) -> bytes:
    return b"%dms" % round(value) if value >= 0 else b""


def _heroku() -> Formatter:
    def line(record: AccessRecord) -> bytes:
        failed = record.status >= 500
        start = b"at=error code=%s " % _word(record.reason.encode()) if failed else b"at=info "
        return start + (
            b'method=%s path="%s" host=%s request_id=%s fwd="%s" dyno=%s connect=%s service=%s'
            b" status=%d bytes=%d protocol=%s cache=%s\n"
            % (
                escape(record.method),
                escape(record.path),
                _word(record.host),
                _word(record.request_id),
                escape(record.client.encode()),
                escape(record.backend.encode()),
                _milliseconds(record.connect_ms),
                _milliseconds(record.duration_ms),
                record.status,
                record.bytes_sent,
                escape(record.scheme),
                escape(record.outcome.encode()),
            )
        )

    return line


_FORMATTERS: dict[str, Callable[[], Formatter]] = {
    "console": _console,
    "combined": _combined,
    "json": _json,
    "logfmt": _logfmt,
    "heroku": _heroku,
}


def formatter(name: str) -> Formatter:
    """The function that makes a line, with its newline, of a record. `name` is one of FORMATS but "off"."""
    return _FORMATTERS[name]()


class Timer(Protocol):
    def cancel(self) -> None: ...


class CallLater(Protocol):
    def __call__(self, delay: float, callback: Callable[[], None], /) -> Timer: ...


class AccessLog:
    """Lines on their way to a descriptor. With the format "off" it takes records and does nothing."""

    __slots__ = ("_call_later", "_fd", "_lines", "_own_fd", "_socket", "_timer", "_whole", "dropped", "line")

    def __init__(self, name: str, call_later: CallLater, fd: int = 1) -> None:
        self._call_later = call_later
        self._lines = bytearray()
        self._timer: Timer | None = None
        self._fd = fd
        self._own_fd = False
        self._whole = False
        self._socket: socket.socket | None = None
        self.dropped = 0
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

    def use(self, name: str) -> None:
        """Write the format `name` from now on; lines already made keep theirs."""
        self.line: Formatter | None = formatter(name) if name != "off" else None

    def write(self, record: AccessRecord) -> None:
        """Take one record; the line is written within a second."""
        if self.line is None:
            return
        line = self.line(record)
        if len(self._lines) + len(line) > MAX_WAITING:
            self.dropped += 1
            return
        self._lines += line
        if self._timer is None:
            self._timer = self._call_later(FLUSH_SECONDS, self._tick)
        if len(self._lines) >= FLUSH_BYTES and len(self._lines) - len(line) < FLUSH_BYTES:
            self.flush()

    def _tick(self) -> None:
        self._timer = None
        self.flush()
        if self._lines:
            self._timer = self._call_later(FLUSH_SECONDS, self._tick)

    def flush(self) -> None:
        """Write what the descriptor takes now; the rest stays."""
        while self._lines:
            size = self._piece()
            try:
                with memoryview(self._lines) as view, view[:size] as piece:
                    if self._socket is not None:
                        written = self._socket.send(piece, socket.MSG_DONTWAIT)
                    else:
                        written = os.write(self._fd, piece)
            except BlockingIOError:
                return
            except OSError as error:
                operations.error("access log: %s; %d bytes of it are lost", error.strerror, len(self._lines))
                self._lines.clear()
                return
            del self._lines[:written]
        if self.dropped:
            operations.warning("access log: %d lines dropped, its reader was too slow", self.dropped)
            self.dropped = 0

    def _piece(self) -> int:
        """How much to write in one call: into a pipe whole lines of at most PIPE_BUF bytes, else everything."""
        if not self._whole or len(self._lines) <= select.PIPE_BUF:
            return len(self._lines)
        end = self._lines.rfind(b"\n", 0, select.PIPE_BUF)
        if end < 0:  # a single line longer than that
            end = self._lines.find(b"\n")
        return end + 1

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
        self.line = None


def set_up_operations_log(role: str) -> None:
    """Send the logger `flyby` to standard error, each line with the time and the process that says it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s flyby[{role}] %(levelname)s %(message)s"))
    operations.handlers[:] = [handler]
    operations.setLevel(logging.INFO)
    operations.propagate = False
