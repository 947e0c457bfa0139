"""How long a key is marked hit-for-miss: the last answer under it could not be stored, so requests do not wait for one
another, and the client's own conditions and Range go on to the origin.

A mark is renewed by every such answer, and removed by one that is stored and by a 304 that would let it be.
"""

from __future__ import annotations

from flyby.policy.outcome import Reason
from flyby.policy.rules import CacheRules

ERROR_S = 2.0  # an error, and what came of one request, say little of the next answer

# It was this request, or this response's size or end, not the kind of response, that forbade storing.
_OF_ONE_REQUEST = frozenset(
    (
        *(Reason.METHOD, Reason.CONTENT, Reason.REQUEST_NO_STORE, Reason.AUTHORIZATION, Reason.COOKIE),
        *(Reason.PROVOKED, Reason.CONTENT_RANGE, Reason.UNENDED, Reason.INCOMPLETE, Reason.ORIGIN_FAILED),
    )
)


def mark_for(status: int | None, reason: Reason, rules: CacheRules) -> float:
    """The seconds of a mark, where a response with `status` (None: there was none) was not stored for `reason`."""
    if status is None or status >= 400 or reason in _OF_ONE_REQUEST:
        return min(ERROR_S, rules.hit_for_miss_s)
    return rules.hit_for_miss_s
