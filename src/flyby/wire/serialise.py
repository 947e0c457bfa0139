"""The only writer of heads and of chunk framing (RFC 9112 3, 4, 7.1).

Whatever goes out is written afresh from parsed parts: one space, CRLF, names as they came. Every name, value and
start-line part is checked on the way out, whoever made it (a peer, the configuration, an edge script), so that a
head can never be split by its content: a part with CR, LF, NUL or another control byte is a ValueError, not a
response; but for those that an origin's field value may hold (`_serialise`).
"""

from __future__ import annotations

from flyby.wire._fields import Fields
from flyby.wire._serialise import field_lines, open_response, serialise_request, serialise_response

__all__ = [
    "CHUNK_END",
    "LAST_CHUNK",
    "REASONS",
    "chunk_head",
    "last_chunk",
    "open_response",
    "serialise_request",
    "serialise_response",
]

CHUNK_END = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"

REASONS: dict[int, bytes] = {
    100: b"Continue",
    101: b"Switching Protocols",
    102: b"Processing",
    103: b"Early Hints",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    203: b"Non-Authoritative Information",
    204: b"No Content",
    205: b"Reset Content",
    206: b"Partial Content",
    207: b"Multi-Status",
    208: b"Already Reported",
    226: b"IM Used",
    300: b"Multiple Choices",
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    304: b"Not Modified",
    305: b"Use Proxy",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    406: b"Not Acceptable",
    407: b"Proxy Authentication Required",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    411: b"Length Required",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable",
    417: b"Expectation Failed",
    418: b"I'm a Teapot",
    421: b"Misdirected Request",
    422: b"Unprocessable Content",
    423: b"Locked",
    424: b"Failed Dependency",
    425: b"Too Early",
    426: b"Upgrade Required",
    428: b"Precondition Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    451: b"Unavailable For Legal Reasons",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    506: b"Variant Also Negotiates",
    507: b"Insufficient Storage",
    508: b"Loop Detected",
    511: b"Network Authentication Required",
}


def chunk_head(length: int) -> bytes:
    """The line before a chunk's data. A chunk of no bytes would end the body, hence is refused."""
    if length <= 0:
        raise ValueError(f"a chunk needs data: {length}")
    return b"%x\r\n" % length


def last_chunk(trailers: Fields | None = None) -> bytes:
    """The end of a chunked body, with its trailer section."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + field_lines(trailers)
