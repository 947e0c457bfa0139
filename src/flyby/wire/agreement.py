"""The second opinion: httptools (llhttp) must accept a head too, and read it in the same way.

It is fed one complete head and nothing else. Fed more, it would start thousands of pipelined requests, take the
content of an upgrade request for the next request, and eat what follows a response to HEAD; so it never sees content.
Its lenient flags are never set.
"""

from __future__ import annotations

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from flyby.errors import WireError


class _Deaf:
    """A protocol without callbacks: only the verdict counts. A name that were missing would cost an exception."""

    on_message_begin = on_url = on_status = on_header = on_headers_complete = None
    on_body = on_message_complete = on_chunk_header = on_chunk_complete = None


_DEAF = _Deaf()


def agree_request(head: bytes, method: bytes, version: int) -> None:
    """Raise unless httptools reads the same method and version; 501 for a method that it does not know."""
    parser = HttpRequestParser(_DEAF)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserInvalidMethodError as error:
        raise WireError(501, "method", "the method is not known here") from error
    except HttpParserError as error:
        raise WireError(400, "head", f"the request head is malformed: {error}") from error
    if parser.get_method() != method or parser.get_http_version() != ("1.1" if version == 11 else "1.0"):
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
