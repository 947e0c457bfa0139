"""How the end of a message's content is known, and what follows for its connection (RFC 9112 6 and 9).

Every rule here works on bytes with anchored expressions: `int()`, `isdigit()` and `strip()` take far more for a number
or for white space than HTTP does. A message whose framing can be read in two ways is refused, with 400 for a request
and 502 for a response.
"""

from __future__ import annotations

import re
from enum import IntEnum

from flyby.errors import WireError
from flyby.wire._fields import Fields


class BodyKind(IntEnum):
    NONE = 0  # there is no content
    LENGTH = 1  # Content-Length counts it
    CHUNKED = 2  # the last chunk ends it
    CLOSE = 3  # the end of the connection ends it; responses only


# 18 digits always fit 63 bits, and no content is longer.
_LENGTH = re.compile(rb"[0-9]{1,18}\Z")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# A list of tokens; empty elements are legal for a recipient (RFC 9110 5.6.1.2).
_OPTIONS = re.compile(rb"[ \t]*(?:" + _TOKEN + rb")?[ \t]*(?:,[ \t]*(?:" + _TOKEN + rb")?[ \t]*)*\Z")
_OPTION = re.compile(_TOKEN)
_CODINGS = re.compile(_TOKEN + rb"(?:[ \t]*,[ \t]*" + _TOKEN + rb")*\Z")
# A `Connection: Content-Length` asks some proxies to drop the framing that they were to obey.
_NEVER_OPTIONS = frozenset({b"host", b"content-length", b"transfer-encoding"})
_PROTOCOLS = frozenset({b"websocket", b"flyby-tunnel/1"})


def content_length(values: list[bytes], status: int) -> int:
    """The one number that the values give; identical repetitions are the caller's to allow."""
    first = values[0]
    if any(value != first for value in values) or _LENGTH.match(first) is None:
        raise WireError(status, "content-length", "Content-Length is not one decimal number of at most 18 digits")
    return int(first)


def request_framing(version: int, fields: Fields) -> tuple[BodyKind, int, bool]:
    """(kind, length, whether the client waits for 100 Continue) of a request."""
    expected = fields.combined(b"expect")
    waits = False
    if expected is not None:
        if {member.strip(b" \t") for member in expected.lower().split(b",")} != {b"100-continue"}:
            raise WireError(417, "expect", "the only expectation that can be met is 100-continue")
        # RFC 9110 10.1.1: a server ignores the expectation of an HTTP/1.0 request.
        waits = version >= 11
    lengths = fields.get_all(b"content-length")
    codings = fields.get_all(b"transfer-encoding")
    if not codings:
        if not lengths:
            return BodyKind.NONE, -1, waits
        if len(lengths) > 1:
            raise WireError(400, "content-length", "a request has more than one Content-Length")
        return BodyKind.LENGTH, content_length(lengths, 400), waits
    if lengths:
        raise WireError(400, "framing", "a request has both Content-Length and Transfer-Encoding")
    if version < 11:
        raise WireError(400, "framing", "Transfer-Encoding in an HTTP/1.0 request")  # RFC 9112 6.1
    coding = codings[0].lower()
    if len(codings) == 1 and coding == b"chunked":
        return BodyKind.CHUNKED, -1, waits
    if len(codings) == 1 and _CODINGS.match(coding) and b"chunked" not in coding.split(b",")[0]:
        raise WireError(501, "transfer-coding", "the only transfer coding known here is chunked")
    raise WireError(400, "transfer-coding", "the transfer coding is not exactly chunked")


def response_framing(version: int, fields: Fields) -> tuple[BodyKind, int]:
    """(kind, length) that the fields of a response announce, before status and method have their say."""
    lengths = fields.get_all(b"content-length")
    codings = fields.get_all(b"transfer-encoding")
    if codings:
        if lengths:
            raise WireError(502, "framing", "a response has both Content-Length and Transfer-Encoding")
        if version < 11:
            raise WireError(502, "framing", "Transfer-Encoding in an HTTP/1.0 response")
        coding = codings[0].lower()
        if len(codings) > 1 or (b"chunked" in coding and coding != b"chunked"):
            raise WireError(502, "transfer-coding", "the transfer coding of the response is not exactly chunked")
        # RFC 9112 6.3 rule 4: without a final chunked coding the response ends with its connection.
        return (BodyKind.CHUNKED, -1) if coding == b"chunked" else (BodyKind.CLOSE, -1)
    if not lengths:
        return BodyKind.CLOSE, -1
    if len(lengths) > 1 or b"," in lengths[0]:
        # Rule 5 lets a recipient collapse repetitions of the same number, on lines or in a list.
        lengths = [member.strip(b" \t") for value in lengths for member in value.split(b",")]
        length = content_length(lengths, 502)
        fields.set(b"Content-Length", lengths[0])
        return BodyKind.LENGTH, length
    return BodyKind.LENGTH, content_length(lengths, 502)


def connection_close(version: int, fields: Fields, requests: bool) -> bool:
    """Whether the connection ends behind the message, from its `Connection` lines (RFC 9112 9.3).

    A fault in them refuses a request; behind a response it only ends the connection.
    """
    value = (fields.combined(b"connection") or b"").lower()
    if value == b"keep-alive":
        return False
    options = _OPTION.findall(value)
    fault = ""
    if _OPTIONS.match(value) is None:
        fault = "Connection is not a list of tokens"
    elif not _NEVER_OPTIONS.isdisjoint(options):
        fault = "Connection names a field that frames or routes the message"
    if fault:
        if requests:
            raise WireError(400, "connection", fault)
        return True
    return b"close" in options or (version < 11 and b"keep-alive" not in options)


def upgrade_of(version: int, method: bytes, fields: Fields, kind: BodyKind, length: int) -> bytes | None:
    """The protocol to switch to, the first that is known here; any other offer is ignored (RFC 9110 7.8)."""
    offer = fields.combined(b"upgrade")
    if offer is None or version < 11:
        return None
    options = _OPTION.findall((fields.combined(b"connection") or b"").lower())
    if b"upgrade" not in options:
        return None
    protocols = [protocol.strip(b" \t") for protocol in offer.lower().split(b",")]
    # Some servers read the content of such a request as bytes of the new protocol. Java's client offers h2c with
    # every request, content or not, and expects to be ignored.
    if kind is not BodyKind.NONE and length != 0 and protocols != [b"h2c"]:
        raise WireError(400, "upgrade", "a request that asks for an upgrade has content")
    return next((protocol for protocol in protocols if protocol in _PROTOCOLS), None) if method == b"GET" else None
