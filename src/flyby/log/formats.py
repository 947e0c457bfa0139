"""What one access line says, in each format: `formatter(name)` gives the function that makes one of an `AccessRecord`.

What came over the wire stays bytes and is escaped here, once: no byte outside printable ASCII, no quote and no
backslash of a client's reaches a log unescaped, so that nobody can forge a line or drive the reader's terminal.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

FORMATS = ("console", "combined", "json", "logfmt", "heroku", "off")


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
    # In tenths and whole numbers, as `_lines.pyx` does, so that both write the same digits.
    if count < 1000:
        return b"%d B" % count
    if count < 1_000_000:
        return b"%d.%d kB" % divmod((count + 50) // 100, 10)
    return b"%d.%d MB" % divmod((count + 50_000) // 100_000, 10)


def _console() -> Formatter:
    stamp = _Stamp("%H:%M:%S")

    def line(record: AccessRecord) -> bytes:
        reason = f" ({record.reason})" if record.reason else ""
        return b"%s %3d %-11s %-4s %s%s  %d.%d ms  %s  %s%s\n" % (
            stamp(record.time_ms),
            record.status,
            escape(record.outcome.encode()),
            escape(record.method),
            escape(record.host),
            escape(record.path),
            *divmod(round(record.duration_ms * 10), 10),
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
