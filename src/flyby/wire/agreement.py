"""The second opinion: httptools (llhttp) must accept a head too, and read it in the same way.

It is fed one complete head and nothing else. Fed more, it would start thousands of pipelined requests, take the
content of an upgrade request for the next request, and eat what follows a response to HEAD; so it never sees content.
Its lenient flags are never set.

Where we knowingly take more than it does, it is shown the head as we have corrected it. This is the whole list:

    request    a method in upper case that is not one of ours   shown as POST
    response   white space between a field name and its colon   shown without it (RFC 9112 5.1: a proxy removes it)
    response   control bytes in a field value, not CR, LF, NUL  shown as `?` (RFC 9110 5.5: a recipient may keep them)

Fields that frame a message or end its connection are never corrected: those in `TO_THE_LETTER`, and names that CGI
would take for them, are refused where another field is mended. A status line without its second space needs no
correction: llhttp reads it too.
"""

from __future__ import annotations

import re

from httptools import (
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from flyby.errors import WireError
from flyby.wire._fields import Fields

TO_THE_LETTER: frozenset[bytes] = frozenset(
    {b"connection", b"content-length", b"proxy-connection", b"trailer", b"transfer-encoding", b"upgrade"}
)

# Shown as they are: what llhttp must see to have its say (CONNECT and PRI have rules of their own), and the rest of
# the methods of RFC 9110. Any other is unsafe and uncached, and its name decides nothing about the message.
_OWN_METHODS = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI"}
)
_OTHER_METHOD = re.compile(rb"[A-Z][A-Z0-9!#$%&'*+\-.^_`|~]*\Z")
_CONTROLS = bytes(byte for byte in range(256) if (byte < 0x20 and byte != 9) or byte == 0x7F)
_VISIBLE = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))


class _Deaf:
    """A protocol without callbacks: only the verdict counts. A name that were missing would cost an exception."""

    on_message_begin = on_url = on_status = on_header = on_headers_complete = None
    on_body = on_message_complete = on_chunk_header = on_chunk_complete = None


_DEAF = _Deaf()


def tidied(start_line: bytes, fields: Fields) -> bytes:
    """The head with its field lines in their plainest form; `start_line` has its CRLF.

    So a head is shown that holds a correction of the list above, and one with legal spellings that llhttp lacks
    (repeated lengths in a response, tabs around a transfer coding).
    """
    lines = [start_line]
    lines.extend(b"%b: %b\r\n" % (name, value.translate(_VISIBLE)) for name, value in fields)
    lines.append(b"\r\n")
    return b"".join(lines)


def agree_request(head: bytes, method: bytes, version: int) -> None:
    """Raise unless httptools reads the same method and version; 501 for a method that is not taken here."""
    shown = method
    if method not in _OWN_METHODS:
        if _OTHER_METHOD.match(method) is None:
            raise WireError(501, "method", "the method is not known here: methods are in upper case")
        shown = b"POST"
        head = shown + head[len(method) :]
    parser = HttpRequestParser(_DEAF)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise WireError(400, "head", f"the request head is malformed: {error}") from error
    if parser.get_method() != shown or parser.get_http_version() != ("1.1" if version == 11 else "1.0"):
        raise WireError(400, "head", "two parsers read this request head differently")


def agree_response(head: bytes, status: int) -> None:
    """Raise unless httptools reads the same status."""
    parser = HttpResponseParser(_DEAF)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise WireError(502, "head", f"the response head is malformed: {error}") from error
    if parser.get_status_code() != status:
        raise WireError(502, "head", "two parsers read this response head differently")
