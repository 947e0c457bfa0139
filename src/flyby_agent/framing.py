"""Where an HTTP/1.1 message ends (RFC 9112 6), in both directions. No I/O.

The agent passes bytes on and need not understand them, but it must know when an exchange is over, so that a link can
carry the next. It is not the judge of the messages: the edge is, on both sides of it. So the rule here is doubt: what
does not have the one plain form of its framing is `framed = False`, is passed on until somebody closes, and neither
the link nor the connection to the app is used again.

    head        up to the first empty line; lines end with CRLF, none is folded, no CR or LF stands alone
    NONE        no content: HEAD, 1xx, 204, 304, a request without framing
    LENGTH      one Content-Length of digits
    CHUNKED     one Transfer-Encoding that is exactly `chunked`; sizes in hexadecimal, extensions and trailers skipped
    CLOSE       up to the end of the connection: a response without framing, and whatever is in doubt

From a response's head three things are taken out, being about the app's connection and not about the link: fields that
begin with `Flyby-` (they are the tunnel's own words), `Connection: close` or `keep-alive` alone, and the version 1.0,
the last two only when the message is framed. So an app that closes after each response (gunicorn's default worker,
HTTP/1.0 servers) does not cost a TLS handshake for each. A head needs few scans: `bytes.find` for what is rare.
"""

from __future__ import annotations

import re

NONE, LENGTH, CHUNKED, CLOSE = range(4)

MOST_HEAD = 128 * 1024  # more than any edge sends or accepts
MOST_LINE = 4 * 1024  # of a chunk's size with its extensions
MOST_TRAILERS = 64 * 1024

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) [^ \r\n]+ HTTP/1\.1\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n")
_CONNECTION = re.compile(rb"\r\nconnection:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)")
_ALONE = re.compile(rb"\r\nconnection:[ \t]*(?:close|keep-alive)[ \t]*(?=\r\n)", re.I)
_FLYBY = re.compile(rb"[\r\n]+flyby-[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*", re.I)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n")

_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


class Body:
    """Counts through the content of one message as it passes."""

    __slots__ = ("_line", "_state", "_trailers", "broken", "done", "kind", "left")

    def __init__(self, kind: int, length: int = 0) -> None:
        self.kind = kind
        self.left = length  # bytes to come, of the content or of the chunk
        self.done = kind == NONE or (kind == LENGTH and not length)
        self.broken = False  # not the chunks that it promised: passed on until somebody closes
        self._state = _SIZE
        self._line = b""  # of a line that a read cut in two
        self._trailers = 0

    def feed(self, data: bytes, start: int = 0) -> int:
        """The offset behind the last byte of `data` that belongs to the message; `done` says whether it ends there."""
        size = len(data)
        kind = self.kind
        if kind == LENGTH:
            here = size - start
            if here < self.left:
                self.left -= here
                return size
            start += self.left
            self.left = 0
            self.done = True
            return start
        if kind == NONE:
            return start
        if kind == CLOSE or self.broken:
            return size
        return self._chunks(data, start)

    def _chunks(self, data: bytes, at: int) -> int:
        size = len(data)
        while at < size:
            if self._state == _DATA:
                here = size - at
                if here < self.left:
                    self.left -= here
                    return size
                at += self.left
                self._state = _DATA_END
                continue
            end = data.find(b"\n", at) + 1
            line = self._line + data[at : end or size]
            if not end:
                if len(line) > MOST_LINE:
                    return self._break(size)
                self._line = line
                return size
            self._line = b""
            at = end
            if not self._end_of_line(line):
                return self._break(size)
            if self.done:
                return at
        return at

    def _end_of_line(self, line: bytes) -> bool:
        """One whole line between the chunks; False when it is not what stands there."""
        if self._state == _SIZE:
            found = _CHUNK.fullmatch(line)
            if found is None:
                return False
            self.left = int(found[1], 16)
            self._state = _DATA if self.left else _TRAILERS
            return True
        if self._state == _DATA_END:
            self._state = _SIZE
            return line == b"\r\n"
        self._trailers += len(line)
        self.done = line == b"\r\n"
        return line.endswith(b"\r\n") and self._trailers <= MOST_TRAILERS

    def _break(self, size: int) -> int:
        self.broken = True
        return size


class RequestHead:
    """What the agent needs to know of a request."""

    __slots__ = ("body", "close", "framed", "method", "replayable")

    def __init__(self, method: bytes, body: Body, framed: bool, close: bool, replayable: bool) -> None:
        self.method = method
        self.body = body
        self.framed = framed
        self.close = close  # the edge does not want the link after this exchange
        self.replayable = replayable  # idempotent, and nothing follows the head


class ResponseHead:
    """What the agent needs to know of a response; `head` is what is passed on of it."""

    __slots__ = ("body", "framed", "head", "persistent", "status")

    def __init__(self, status: int, head: bytes, body: Body, framed: bool, persistent: bool) -> None:
        self.status = status
        self.head = head
        self.body = body
        self.framed = framed
        self.persistent = persistent  # the app keeps its connection after this response


def _plain(head: bytes) -> bool:
    """Every line ends with CRLF and none is folded: there is one way to read it."""
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        return False
    return head.find(b"\n ") < 0 and head.find(b"\n\t") < 0


def _framing(low: bytes) -> tuple[int, int] | None:
    """(kind, length) by the fields; NONE without any, None when in doubt. `low` is the head in lower case."""
    length = low.find(b"\ncontent-length")
    coding = low.find(b"\ntransfer-encoding")
    if coding >= 0:
        if length >= 0 or not _CHUNKED.match(low, coding - 1) or low.find(b"\ntransfer-encoding", coding + 1) >= 0:
            return None
        return CHUNKED, 0
    if length >= 0:
        found = _LENGTH.match(low, length - 1)
        if found is None or low.find(b"\ncontent-length", length + 1) >= 0:
            return None
        return LENGTH, int(found[1])
    return NONE, 0


def _options(low: bytes) -> list[bytes]:
    """Every connection option, in lower case (RFC 9110 7.6.1)."""
    if low.find(b"\nconnection:") < 0:
        return []
    return [option.strip(b" \t") for found in _CONNECTION.finditer(low) for option in found[1].split(b",")]


def request_head(head: bytes) -> RequestHead:
    """`head` ends with its empty line."""
    low = head.lower()
    line = _REQUEST_LINE.match(head)
    framing = _framing(low) if line and _plain(head) else None
    if line is None or framing is None:
        return RequestHead(line[1] if line else b"", Body(CLOSE), False, True, False)
    options = _options(low)
    method = line[1]
    # CONNECT and upgrades change what follows the head: such a request is never sent twice.
    once = method not in IDEMPOTENT or framing[0] != NONE or b"upgrade" in options
    return RequestHead(method, Body(*framing), True, b"close" in options, not once)


def response_head(head: bytes, method: bytes) -> ResponseHead | None:
    """None when it does not begin as an HTTP/1.x response. `method` is the request's."""
    line = _STATUS_LINE.match(head)
    if line is None:
        return None
    status = int(line[2])
    low = head.lower()
    if low.find(b"flyby-") >= 0:
        head = _FLYBY.sub(b"", head)
        low = head.lower()
    framing = _framing(low) if _plain(head) else None
    if status < 200:
        return ResponseHead(status, head, Body(NONE), framing is not None, True)
    if method == b"HEAD" or status in (204, 304):
        body = Body(NONE)
    elif (
        framing is None
        or framing[0] == NONE
        or (framing[0] == CHUNKED and line[1] == b"0")  # faulty framing (RFC 9112 6.1)
        or (method == b"CONNECT" and status < 300)  # a tunnel follows
    ):
        return ResponseHead(status, head, Body(CLOSE), False, False)
    else:
        body = Body(*framing)
    options = _options(low)
    persistent = b"close" not in options and (line[1] == b"1" or b"keep-alive" in options)
    if framing is None:
        return ResponseHead(status, head, body, False, False)
    if options:
        head = _ALONE.sub(b"", head)
    if line[1] == b"0":
        head = b"HTTP/1.1" + head[8:]
    # What is left of `Connection: close` among other options tells the edge to close the link, and so does the agent.
    return ResponseHead(status, head, body, b"close" not in _options(head.lower()) if options else True, persistent)
