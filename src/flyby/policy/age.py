"""How old a response was when it arrived (RFC 9111 4.2.3, 5.1).

    apparent_age          = max(0, response_time - Date)
    corrected_age_value   = Age + (response_time - request_time)
    corrected_initial_age = max(apparent_age, corrected_age_value)

Age is one non-negative integer. Where it is sent as a list its first member counts, and what is no number is ignored
(5.1), unless `strict`: then anything but one number means that some cache on the way is broken, and the response counts
as old.
"""

from __future__ import annotations

from flyby.policy.cache_control import DELTA_MAX, delta_seconds
from flyby.policy.dates import parse_http_date
from flyby.wire import Fields


def age_value(fields: Fields, strict: bool = False) -> int:
    """The Age that a response brought, in seconds; 0 when it brought none (RFC 9111 5.1)."""
    lines = fields.get_all(b"age")
    if not lines:
        return 0
    if strict:
        age = delta_seconds(lines[0].strip(b" \t")) if len(lines) == 1 else None
        return DELTA_MAX if age is None else age
    return delta_seconds(lines[0].partition(b",")[0].strip(b" \t")) or 0


def date_value(fields: Fields, response_ms: int) -> int:
    """When the response was made, in seconds: its Date, or when it arrived if that is missing or no date (RFC 9110
    6.6.1).
    """
    value = fields.get(b"date")
    date = parse_http_date(value, response_ms) if value is not None else None
    return response_ms // 1000 if date is None else date


def corrected_initial_age_ms(fields: Fields, request_ms: int, response_ms: int, strict: bool = False) -> int:
    """RFC 9111 4.2.3, in milliseconds. Date has whole seconds, and so is compared in whole seconds."""
    apparent_s = max(0, response_ms // 1000 - date_value(fields, response_ms))
    corrected_ms = age_value(fields, strict) * 1000 + max(0, response_ms - request_ms)
    return max(apparent_s * 1000, corrected_ms)
