"""What is decided about a response when it is stored, in the numbers that a hit compares (RFC 9111 4.2, 5861).

`Times` are absolute wall-clock milliseconds, so that a lookup needs no arithmetic on ages:

    born ─────── fresh ──────────────┬─ fresh + swr: served stale while it is refreshed behind
    (age 0)      (stops being fresh) └─ fresh + sie: served stale when the origin fails
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from flyby.wire import Fields


@dataclass(slots=True)
class Times:
    """`born_ms`: when the age was 0; `fresh_ms`: when it stops being fresh; the windows begin at `fresh_ms`, in
    seconds.
    """

    born_ms: int
    fresh_ms: int
    swr_s: int = 0
    sie_s: int = 0


# Of keys, stored heads and flags. A cache that outlives its process is dropped by code that reads them in another way,
# so whoever changes one of them counts on.
STORED_FORMAT = 2


class EntryFlag(enum.IntEnum):
    """Facts about a stored response that its reuse depends on: bits of a plain int, which `IntFlag` would make slow."""

    MUST_REVALIDATE = 1  # never used stale: must-revalidate, proxy-revalidate, s-maxage (RFC 9111 5.2.2.2, .8, .10)
    NO_CACHE = 2  # validated before each use (5.2.2.4)
    HEURISTIC = 4  # its freshness is a guess (4.2.2)
    PUBLIC = 8  # said public (5.2.2.9)
    AUTHORIZED = 16  # may be shared though requests carry Authorization (3.5)
    VALIDATOR = 32  # has an ETag or a Last-Modified to validate with (4.3.1)
    PARTIAL = 64  # a 206: only a part of the representation is here (3.3)
    HIT_FOR_MISS = 128  # no response: the last answer could not be shared
    VARY_MARKER = 256  # no response: says by which fields the responses differ (4.1)
    SET_COOKIE = 512  # is stored with its Set-Cookie
    NO_STALE = 1024  # its freshness information was invalid: not to be stretched (4.2.1)
    TOO_LARGE = 4096  # no response: the last one outgrew the store; beside HIT_FOR_MISS
    COOKIELESS = 2048  # rests on a guess or on a date alone: in profile default not for requests with a Cookie


class Request(Protocol):
    """What policy reads of a request."""

    @property
    def method(self) -> bytes: ...
    @property
    def scheme(self) -> bytes: ...
    @property
    def host(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def fields(self) -> Fields: ...


class Response(Protocol):
    """What policy reads of a response."""

    @property
    def status(self) -> int: ...
    @property
    def fields(self) -> Fields: ...
