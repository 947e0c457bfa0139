"""HTTP/1.1 messages as bytes (RFC 9110, RFC 9112): heads, framing, limits, serialising. No I/O."""

from flyby.wire._body import BodyReader
from flyby.wire._fields import Fields
from flyby.wire._head import HeadReader, RequestHead, ResponseHead
from flyby.wire.framing import BodyKind
from flyby.wire.hop_by_hop import HOP_BY_HOP, effective_fields, strip_hop_by_hop
from flyby.wire.limits import STANDARD_LIMITS, WireLimits
from flyby.wire.serialise import (
    CHUNK_END,
    LAST_CHUNK,
    REASONS,
    chunk_head,
    last_chunk,
    open_response,
    serialise_request,
    serialise_response,
)

__all__ = [
    "CHUNK_END",
    "HOP_BY_HOP",
    "LAST_CHUNK",
    "REASONS",
    "STANDARD_LIMITS",
    "BodyKind",
    "BodyReader",
    "Fields",
    "HeadReader",
    "RequestHead",
    "ResponseHead",
    "WireLimits",
    "chunk_head",
    "effective_fields",
    "last_chunk",
    "open_response",
    "serialise_request",
    "serialise_response",
    "strip_hop_by_hop",
]
