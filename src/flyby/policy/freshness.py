"""For how long a response is fresh by its dates (RFC 9111 4.2.1), or may be guessed to be (4.2.2).

What Cache-Control says comes first (`template.Source` has the order). A lifetime may be negative (an Expires before
Date). An Expires that cannot be read, or is given twice differently, makes the response stale from the start.
"""

from __future__ import annotations

from typing import NamedTuple

from flyby.policy.dates import parse_http_date
from flyby.wire import Fields

# RFC 9110 15.1: heuristically cacheable.
HEURISTIC_STATUSES = frozenset((200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501))
HEURISTIC_FRACTION = 10

# All that the times of a response depend on, beside its Template and when it came.
TIME_FIELDS: tuple[bytes, ...] = (b"age", b"date", b"expires", b"last-modified")


class Stamps(NamedTuple):
    """The raw values of TIME_FIELDS: the first line of Date and Last-Modified, all lines of Age and Expires."""

    date: bytes | None = None
    age: tuple[bytes, ...] = ()
    expires: tuple[bytes, ...] = ()
    last_modified: bytes | None = None


def stamps_of(fields: Fields) -> Stamps:
    """The stamps of a response with these fields."""
    return Stamps(
        date=fields.get(b"date"),
        age=tuple(fields.get_all(b"age")),
        expires=tuple(fields.get_all(b"expires")),
        last_modified=fields.get(b"last-modified"),
    )


def date_s(date: bytes | None, wall_ms: int) -> int:
    """When the response was made, in seconds: its Date, or when it arrived if that is missing or no date (RFC 9110
    6.6.1).
    """
    found = parse_http_date(date, wall_ms) if date is not None else None
    return wall_ms // 1000 if found is None else found


def expires_lifetime(stamps: Stamps, wall_ms: int) -> int | None:
    """Expires less Date; None when Expires is no date, or two."""
    if len(set(stamps.expires)) != 1:
        return None
    expires = parse_http_date(stamps.expires[0], wall_ms)
    return None if expires is None else expires - date_s(stamps.date, wall_ms)


def guessed_lifetime(stamps: Stamps, wall_ms: int, most_s: float) -> int | None:
    """A tenth of the time since Last-Modified, at most `most_s`; None when that is no date."""
    modified = parse_http_date(stamps.last_modified, wall_ms) if stamps.last_modified is not None else None
    if modified is None:
        return None
    guess = (date_s(stamps.date, wall_ms) - modified) // HEURISTIC_FRACTION
    return int(min(max(guess, 0), most_s))
