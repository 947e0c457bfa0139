"""What the readers ask of a limits object, and the values that hold when nobody chose others.

`config.Limits` fits `WireLimits`; readers copy the numbers once, so that no attribute is looked up a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Side = Literal["request", "response"]


class WireLimits(Protocol):
    """In bytes: `*_line` counts one line without its CRLF, `*_block` all field lines of a head (or of trailers)."""

    @property
    def request_line(self) -> int: ...
    @property
    def header_line(self) -> int: ...
    @property
    def header_block(self) -> int: ...
    @property
    def fields(self) -> int: ...
    @property
    def chunk_line(self) -> int: ...
    @property
    def chunk_extensions(self) -> int: ...
    @property
    def response_line(self) -> int: ...
    @property
    def response_header_line(self) -> int: ...
    @property
    def response_block(self) -> int: ...
    @property
    def response_fields(self) -> int: ...


@dataclass(frozen=True, slots=True)
class StandardLimits:
    """A field line may be longer than the 8,192 bytes that Heroku's router takes; others that serve apps take more."""

    request_line: int = 8192
    header_line: int = 16384
    header_block: int = 32768
    fields: int = 100
    chunk_line: int = 4096
    chunk_extensions: int = 16384
    response_line: int = 16384
    response_header_line: int = 32768
    response_block: int = 65536
    response_fields: int = 200


STANDARD_LIMITS = StandardLimits()
