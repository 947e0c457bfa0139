"""The request as the origin sees it, and as every rule reads it: key, Vary, Range, conditions and the onward head.

What a client can send past the cache's key, it can store for others. So a field that is not sent on is absent for the
rules too: hop-by-hop fields, and those that `Connection` names, but for the protected set, which `Connection` cannot
take away (`wire.hop_by_hop`). What the edge itself writes is written after that.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyby.policy.entry import Request
from flyby.wire import Fields, effective_fields


@dataclass(frozen=True, slots=True)
class Effective:
    """A request whose `fields` are the effective ones."""

    method: bytes
    scheme: bytes
    host: bytes
    path: bytes
    fields: Fields


def effective_request(request: Request) -> Effective:
    """The request that rules are asked about. The connection's own affairs (framing, Upgrade) are read before."""
    return Effective(request.method, request.scheme, request.host, request.path, effective_fields(request.fields))
