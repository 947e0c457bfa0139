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
from flyby.policy.freshness import Stamps, date_s


def age_value(lines: tuple[bytes, ...], strict: bool = False) -> int:
    """The Age that a response brought, in seconds; 0 when it brought none (RFC 9111 5.1)."""
    if not lines:
        return 0
    if strict:
        age = delta_seconds(lines[0].strip(b" \t")) if len(lines) == 1 else None
        return DELTA_MAX if age is None else age
    return delta_seconds(lines[0].partition(b",")[0].strip(b" \t")) or 0


def initial_age_ms(stamps: Stamps, request_ms: int, response_ms: int, wall_ms: int, strict: bool = False) -> int:
    """RFC 9111 4.2.3, in milliseconds. Date has whole seconds, and is compared in whole seconds with the wall clock."""
    apparent_s = max(0, wall_ms // 1000 - date_s(stamps.date, wall_ms))
    corrected_ms = age_value(stamps.age, strict) * 1000 + max(0, response_ms - request_ms)
    return max(apparent_s * 1000, corrected_ms)
