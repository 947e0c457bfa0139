"""Range requests (RFC 9110 14), partial responses and what may be made of them (RFC 9111 3.3, 3.4).

Ranges are inclusive pairs (first, last); the grammar of the field is in `_range.pyx`. A Range that is not understood,
asks for overlapping or for very many parts is ignored, and the whole is sent (14.2). Parts of a representation are
joined only when both carry the same strong validator.

    multipart/byteranges, of two parts:
    --B CRLF Content-Type… Content-Range… CRLF CRLF  bytes  CRLF --B CRLF … CRLF CRLF  bytes  CRLF --B-- CRLF
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from flyby.policy._range import MAX_PARTS as MAX_PARTS
from flyby.policy._range import specs, within
from flyby.policy.conditional import strong_last_modified, strong_match, strong_validator
from flyby.wire import Fields


class _Unsatisfiable(enum.Enum):
    UNSATISFIABLE = enum.auto()


UNSATISFIABLE: Final = _Unsatisfiable.UNSATISFIABLE
Range = tuple[int, int]
Ranges = list[Range]

_CONTENT_RANGE = re.compile(rb"bytes[ \t]+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)\Z", re.IGNORECASE)


def parse_range(value: bytes | None, length: int) -> Ranges | Literal[_Unsatisfiable.UNSATISFIABLE] | None:
    """The parts of a representation of `length` bytes that Range asks for (RFC 9110 14.1.2, 14.2).

    None: ignore the field and send the whole. UNSATISFIABLE: none of the ranges overlaps the representation; 416.
    """
    found = within(value, length) if value is not None else None
    if found is None:
        return None
    if not found:
        return UNSATISFIABLE
    in_order = sorted(found)
    if any(one[1] >= other[0] for one, other in pairwise(in_order)):
        return None
    return found


def if_range_matches(value: bytes | None, fields: Fields) -> bool:
    """Whether If-Range lets Range be honoured (RFC 9110 13.1.5): a strong comparison; `fields` are the stored
    response's.
    """
    if value is None:
        return True
    value = value.strip(b" \t")
    if value.endswith(b'"'):
        etag = fields.get(b"etag")
        return etag is not None and strong_match(value, etag)
    return value == strong_last_modified(fields)


def multipart(
    ranges: Ranges, total: int | None, content_type: bytes | None, boundary: bytes
) -> tuple[list[bytes], bytes]:
    """The bytes before each part, and after the last, of a multipart/byteranges content (RFC 9110 14.6)."""
    size = b"*" if total is None else b"%d" % total
    kind = b"Content-Type: %s\r\n" % content_type if content_type is not None else b""
    heads = [
        b"%s--%s\r\n%sContent-Range: bytes %d-%d/%s\r\n\r\n"
        % (b"\r\n" if number else b"", boundary, kind, first, last, size)
        for number, (first, last) in enumerate(ranges)
    ]
    return heads, b"\r\n--%s--\r\n" % boundary


@dataclass(frozen=True, slots=True)
class ContentRange:
    """A Content-Range (RFC 9110 14.4); `total` is None for `*`."""

    first: int
    last: int
    total: int | None

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    @property
    def complete(self) -> bool:
        return self.first == 0 and self.total == self.length

    def __bytes__(self) -> bytes:
        return b"bytes %d-%d/%s" % (self.first, self.last, b"*" if self.total is None else b"%d" % self.total)


def parse_content_range(value: bytes | None) -> ContentRange | None:
    """The part that a 206 holds (RFC 9110 14.4); None when the field is missing, malformed or not of bytes."""
    match = _CONTENT_RANGE.match(value) if value is not None else None
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == b"*" else int(match[3])
    if last < first or (total is not None and last >= total):
        return None
    return ContentRange(first, last, total)


def serve_partial(value: bytes | None, held: ContentRange, length: int, *, lenient: bool) -> ContentRange | None:
    """The part of a stored part that answers Range, or None when it does not (RFC 9111 3.3).

    `length` is how many bytes are stored; in them the answer begins at `answer.first - held.first`. `lenient` trusts
    where a part begins though its length belies its Content-Range (some origins count wrongly), and takes its end for
    the end.
    """
    asked = specs(value) if value is not None else None
    if asked is None or len(asked) != 1 or not length or (length != held.length and not lenient):
        return None
    end = held.first + length - 1
    first, last = asked[0]
    reaches_end = held.total is not None and held.last == held.total - 1
    if first is None:
        if not reaches_end or held.total is None or not last:
            return None
        first = end - last + 1 if lenient else held.total - last
        last = end
        if first < held.first:
            # More than we hold: all of it, when it is the whole.
            if held.first:
                return None
            first = 0
    elif last > held.last:
        if not reaches_end:
            return None
        last = end
    if first < held.first or last > end or first > last:
        return None
    return ContentRange(first, last, held.total)


@dataclass(frozen=True, slots=True)
class Join:
    """How two parts become one: (of the new part?, offset, length) slices in order, and what they then are."""

    slices: tuple[tuple[bool, int, int], ...]
    held: ContentRange


def combine(stored: ContentRange, stored_fields: Fields, new: ContentRange, new_fields: Fields) -> Join | None:
    """Join two parts of one representation (RFC 9111 3.4); None unless they share a strong validator and touch."""
    validator = strong_validator(stored_fields)
    if validator is None or validator != strong_validator(new_fields):
        return None
    if stored.total is not None and new.total is not None and stored.total != new.total:
        return None
    if new.first > stored.last + 1 or stored.first > new.last + 1:
        return None
    total = stored.total if stored.total is not None else new.total
    held = ContentRange(min(stored.first, new.first), max(stored.last, new.last), total)
    slices = []
    if stored.first < new.first:
        slices.append((False, 0, new.first - stored.first))
    slices.append((True, 0, new.length))
    if stored.last > new.last:
        slices.append((False, new.last + 1 - stored.first, stored.last - new.last))
    return Join(tuple(slices), held)


def completion_fields(held: ContentRange, fields: Fields, *, lenient: bool = False) -> list[tuple[bytes, bytes]]:
    """The request fields that ask for what a stored part lacks (RFC 9111 3.4); none when that is not one range.

    If-Range makes the origin send the whole if it has changed (RFC 9110 13.1.5). Without a strong validator the rest
    could never be joined; `lenient` asks for it all the same, and the caller replaces what it has.
    """
    if held.first == 0:
        rest = b"bytes=%d-" % (held.last + 1)
    elif held.total is not None and held.last == held.total - 1:
        rest = b"bytes=0-%d" % (held.first - 1)
    else:
        return []
    validator = strong_validator(fields)
    if validator is not None:
        return [(b"Range", rest), (b"If-Range", validator)]
    return [(b"Range", rest)] if lenient else []
