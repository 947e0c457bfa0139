"""The upstream: a server that takes requests to the letter of RFC 9112, and remembers all that was not.

`parse` is written from the RFC, not from flyby, and shares no code with it: what flyby sends must be right in the eyes
of somebody else. Where a message is legal but carries on something that a careful proxy leaves behind (control bytes,
chunk extensions, leading zeros), that is a note.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-\xff]+) HTTP/1\.([01])\Z")
_FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):(.*)\Z", re.DOTALL)
_CHUNK_LINE = re.compile(rb"(0*[0-9a-fA-F]{1,16})((?:[ \t]*;[\t -~]*)?)\Z")
_CHUNK_START = re.compile(rb"[0-9a-fA-F]")
_LENGTH = re.compile(rb"0*[0-9]{1,18}\Z")
_STRAY = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
_CONTROL = re.compile(rb"[\x01-\x08\x0b-\x1f\x7f]")
_ODD_TARGET = re.compile(rb"[\x7f-\xff]")

VICTIM = b"/victim-"
GONE_S = 2.0  # a connection that was dropped has ended by then


class Malformed(Exception):
    """No conforming sender would have sent this."""


@dataclass
class Request:
    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    notes: set[str] = field(default_factory=set)

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    @property
    def lines(self) -> list[bytes]:
        """The field lines, names in lower case, without any space: what `require_up` and `forbid_up` look at."""
        return [name + b":" + value.replace(b" ", b"").lower() for name, value in self.fields]


def parse(data: bytes) -> tuple[Request, bytes] | None:
    """The first request in `data` and what follows it; None when it is not there in full yet."""
    head, end, rest = data.partition(b"\r\n\r\n")
    # A CR at the very end may yet get its LF.
    if _STRAY.search(head if end else head.removesuffix(b"\r")):
        raise Malformed("a bare CR or LF, or a NUL, in the head")
    if not end:
        return None
    request, version = _head(head)
    hosts, lengths, codings = (request.all(name) for name in (b"host", b"content-length", b"transfer-encoding"))
    if version == b"1" and len(hosts) != 1:
        raise Malformed(f"{len(hosts)} Host fields")
    if lengths and codings:
        raise Malformed("both Content-Length and Transfer-Encoding")
    if len(lengths) > 1:
        raise Malformed("more than one Content-Length")
    if codings:
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise Malformed(f"Transfer-Encoding {codings!r}")
        after = _after_chunks(rest, request.notes)
    else:
        after = _after_length(rest, lengths[0] if lengths else b"0", request.notes)
    return None if after is None else (request, after)


def _head(head: bytes) -> tuple[Request, bytes]:
    first, *lines = head.split(b"\r\n")
    found = _REQUEST_LINE.match(first)
    if found is None:
        raise Malformed(f"request line {first[:80]!r}")
    request = Request(found[1], found[2], [])
    if _ODD_TARGET.search(found[2]):
        request.notes.add("a target that is not visible ASCII was forwarded")
    for line in lines:
        pair = _FIELD_LINE.match(line)
        if pair is None:
            raise Malformed(f"field line {line[:60]!r}")
        value = pair[2].strip(b" \t")
        if _CONTROL.search(value):
            request.notes.add("a control byte was forwarded")
        request.fields.append((pair[1].lower(), value))
    return request, found[3]


def _after_length(rest: bytes, text: bytes, notes: set[str]) -> bytes | None:
    if not _LENGTH.match(text):
        raise Malformed(f"Content-Length {text[:40]!r}")
    if len(text) > 1 and text.startswith(b"0"):
        notes.add("a Content-Length with leading zeros was forwarded")
    length = int(text)
    return None if len(rest) < length else rest[length:]


def _after_chunks(rest: bytes, notes: set[str]) -> bytes | None:
    while True:
        line, end, tail = rest.partition(b"\r\n")
        if not end:
            if rest and not _CHUNK_START.match(rest):
                raise Malformed(f"chunk line {rest[:40]!r}")
            return None
        found = _CHUNK_LINE.match(line)
        if found is None:
            raise Malformed(f"chunk line {line[:40]!r}")
        if found[2]:
            notes.add("a chunk extension was forwarded")
        if len(found[1]) > 16:
            notes.add("an overlong chunk size was forwarded")
        size = int(found[1], 16)
        if size == 0:
            return _after_trailers(tail)
        if len(tail) < size + 2:
            return None
        if tail[size : size + 2] != b"\r\n":
            raise Malformed("chunk data without its CRLF")
        rest = tail[size + 2 :]


def _after_trailers(rest: bytes) -> bytes | None:
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        if not line:
            return rest
        if not _FIELD_LINE.match(line):
            raise Malformed(f"trailer {line[:60]!r}")


def send_bytewise(connection: socket.socket, data: bytes) -> None:
    """One byte a segment, with a pause that lets the other side read it (in the middle of a long message, none)."""
    for index in range(len(data)):
        connection.sendall(data[index : index + 1])
        if index < 512 or len(data) - index < 512:
            time.sleep(0.0001)


class Upstream:
    """The server, with what it was sent since `begin`."""

    def __init__(self, port: int = 0) -> None:
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self.begin()
        self._accepting.start()

    def begin(self, script: bytes | None = None, *, eof: bool = False, bytewise: bool = False) -> None:
        """Forget everything; answer with `script` (then close, if `eof`), or with what was seen if there is none."""
        with self._changed:
            self.requests: list[Request] = []
            self.malformed: list[str] = []
            self._script, self._eof, self._bytewise = script, eof, bytewise

    def drop(self) -> None:
        """End every connection, and wait until each has."""
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, GONE_S)

    def close(self) -> None:
        # Closing alone would not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(GONE_S)
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                self._converse(connection)
        finally:
            with self._changed:
                self._connections.discard(connection)
                connection.close()
                self._changed.notify_all()

    def _converse(self, connection: socket.socket) -> None:
        data = b""
        while received := connection.recv(65536):
            data += received
            while data:
                try:
                    parsed = parse(data)
                except Malformed as error:
                    with self._changed:
                        self.malformed.append(str(error))
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return
                if parsed is None:
                    break
                request, data = parsed
                if not self._answer(connection, request):
                    return

    def _answer(self, connection: socket.socket, request: Request) -> bool:
        """Whether the connection stays."""
        victim = request.target.startswith(VICTIM)
        with self._changed:
            if not victim:
                self.requests.append(request)
            script, eof, bytewise = self._script, self._eof, self._bytewise
        if script is not None and not victim:
            (send_bytewise if bytewise else socket.socket.sendall)(connection, script)
            return not eof
        body = b"seen:" + request.target
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + (b"" if request.method == b"HEAD" else body))
        return True
