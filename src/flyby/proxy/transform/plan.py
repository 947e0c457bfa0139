"""Which transforms a response goes through, and what its head may still say of it then. Pure.

A response is left as it is where it has no content by its status, is a part of something (206: what a transform would
make of a part is not a part of what it makes of the whole), is encoded already, or says `no-transform` (RFC 9110 7.7).
For one client the request's `no-transform` (RFC 9111 5.2.1.6) counts too; a fetch serves others besides its client, so
there it does not.

What is changed is another representation, of the same meaning:

    ETag                       becomes weak (RFC 9110 8.8.1): equivalent, but not the same bytes
    digests of the content     go (RFC 9530): they are of other bytes
    Accept-Ranges              goes (RFC 9110 14.3): the ranges that it offers are of other bytes
    Content-Length             is what the chain says, or goes

The same holds for trailer fields (RFC 9110 6.5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flyby.proxy.transform.chain import Chain, Transform
from flyby.wire import Fields

WITHOUT_CONTENT = frozenset((204, 205, 304))
PARTIAL_CONTENT = 206
NO_TRANSFORM = re.compile(rb"(?:\A|,)[ \t]*no-transform[ \t]*(?:[,=]|\Z)", re.IGNORECASE)
QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
ABOUT_BYTES = (b"content-length", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"accept-ranges")


@dataclass(frozen=True, slots=True)
class Filter:
    """A transform of one route: which media types it is for (None: all), and what makes one for a response."""

    make: Callable[[], Transform]
    types: frozenset[bytes] | None = None

    def fits(self, media_type: bytes) -> bool:
        return self.types is None or media_type in self.types


@dataclass(frozen=True, slots=True)
class Chains:
    """The transforms of one route: `fetch` once, before storing; `delivery` for each client."""

    fetch: tuple[Filter, ...] = ()
    delivery: tuple[Filter, ...] = ()


def planned(filters: Iterable[Filter], status: int, fields: Fields, request: Fields | None = None) -> list[Filter]:
    """Those of `filters` that a response with this head goes through; `request` has the fields of its one client."""
    if status < 200 or status in WITHOUT_CONTENT or status == PARTIAL_CONTENT:
        return []
    if forbidden(fields) or (request is not None and forbidden(request)):
        return []
    coding = (fields.combined(b"content-encoding") or b"identity").strip(b" \t").lower()
    if coding not in (b"", b"identity"):
        return []
    media_type = (fields.get(b"content-type") or b"").split(b";", 1)[0].strip(b" \t").lower()
    return [each for each in filters if each.fits(media_type)]


def chain_for(filters: Iterable[Filter], status: int, fields: Fields, request: Fields | None = None) -> Chain | None:
    """A new chain for a response with this head, or None; see `planned`."""
    stages = [each.make() for each in planned(filters, status, fields, request)]
    return Chain(stages) if stages else None


def forbidden(fields: Fields) -> bool:
    """Whether the message that has these fields forbids to transform its content (or its response's)."""
    value = fields.combined(b"cache-control")
    return value is not None and NO_TRANSFORM.search(QUOTED.sub(b'""', value)) is not None


def changed_head(chain: Chain, fields: Fields, length: int) -> int:
    """Set `fields` right for what `chain` makes of the content, which is `length` long; returns the new length.

    There is no Content-Length in `fields` afterwards: whoever frames the message writes it.
    """
    length = chain.head(fields, length)
    of_other_bytes(fields)
    return length


def of_other_bytes(fields: Fields) -> None:
    """Remove from `fields` what is said of the content before it was changed, and make the entity tag weak."""
    for name in ABOUT_BYTES:
        fields.remove(name)
    tag = fields.get(b"etag")
    if tag is not None and not tag.startswith(b"W/"):
        fields.set(b"ETag", b"W/" + tag)


def announced_length(fields: Fields) -> int:
    """What Content-Length says, in bytes; -1 when it says nothing certain."""
    value = fields.get(b"content-length") or b""
    return int(value) if len(value) <= 18 and value.isdigit() else -1
