"""For how long a response is fresh (RFC 9111 4.2.1), or may be guessed to be (4.2.2).

First of: s-maxage, max-age, Expires - Date, and a tenth of Date - Last-Modified where the status allows a guess or
the response is `public`. A lifetime may be negative (an Expires before Date). Contradictory or malformed values are
`invalid`: the response is stale from the start, and stays so.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyby.policy.age import date_value
from flyby.policy.cache_control import INVALID, CacheControl
from flyby.policy.dates import parse_http_date
from flyby.wire import Fields

# RFC 9110 15.1: heuristically cacheable.
HEURISTIC_STATUSES = frozenset((200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501))
HEURISTIC_FRACTION = 10
HEURISTIC_MAX_S = 7 * 86400


@dataclass(frozen=True, slots=True)
class Lifetime:
    """`seconds` of freshness from the response's birth; how it is known."""

    seconds: int
    explicit: bool
    invalid: bool = False


def lifetime(status: int, fields: Fields, control: CacheControl, response_ms: int) -> Lifetime | None:
    """The freshness lifetime of a response (RFC 9111 4.2.1, 4.2.2); None when nothing is said and nothing can be
    guessed.
    """
    for given in (control.s_maxage, control.max_age):
        if given is not None:
            return Lifetime(0, True, True) if given == INVALID else Lifetime(given, True)
    if not control.targeted:
        # A targeted field is used in place of Cache-Control and Expires both (RFC 9213 2.2).
        lines = fields.get_all(b"expires")
        if lines:
            expires = parse_http_date(lines[0], response_ms) if len(set(lines)) == 1 else None
            if expires is None:
                return Lifetime(0, True, True)
            return Lifetime(expires - date_value(fields, response_ms), True)
    if status not in HEURISTIC_STATUSES and not control.public:
        return None
    modified_line = fields.get(b"last-modified")
    modified = parse_http_date(modified_line, response_ms) if modified_line is not None else None
    if modified is None:
        return None
    guess = (date_value(fields, response_ms) - modified) // HEURISTIC_FRACTION
    return Lifetime(min(max(guess, 0), HEURISTIC_MAX_S), False)
