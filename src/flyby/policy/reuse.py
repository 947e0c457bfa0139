"""Whether a stored response may answer a request now (RFC 9111 4, 4.2.4, 5.2.1, RFC 5861).

Integers compared, in the order of the road: is it ours to give; does the request or the response ask for validation;
is it fresh; may it be used stale. The caller has matched the key and Vary already.
"""

from __future__ import annotations

import enum

from flyby.policy.cache_control import DELTA_MAX, INVALID, request_control
from flyby.policy.entry import EntryFlag, Request, Times
from flyby.policy.rules import CacheRules

# RFC 5861 4: what counts as an error for stale-if-error.
ERROR_STATUSES = frozenset((500, 502, 503, 504))

# How long after it became stale a response without stale-if-error stands in for an origin that does not answer (RFC
# 9111 4.2.4).
STALE_ON_FAILURE_S = 86_400

_NO_RESPONSE = EntryFlag.VARY_MARKER | EntryFlag.HIT_FOR_MISS
_NEVER_STALE = EntryFlag.MUST_REVALIDATE | EntryFlag.NO_CACHE | EntryFlag.NO_STALE


class Reuse(enum.Enum):
    """What may be done with a stored response."""

    FRESH = "fresh"
    STALE = "stale"  # the client takes it stale (max-stale)
    STALE_REVALIDATE_BEHIND = "stale-while-revalidate"  # send it, and refresh it in the background
    REVALIDATE = "revalidate"  # ask the origin first, with the validators that there are
    MISS = "miss"  # not for this request: as if nothing were stored


def reuse(request: Request, times: Times, flags: int, status: int, now_ms: int, rules: CacheRules) -> Reuse:
    """What a request may get of a stored response (RFC 9111 4). `status` is the stored one; 0 is no response."""
    if flags & _NO_RESPONSE or status == 0 or not allowed_for(request, flags, rules):
        return Reuse.MISS
    wants = request_control(request.fields)
    left_ms = times.fresh_ms - now_ms
    reload = _asks_for_validation(wants.no_cache, wants.max_age, wants.min_fresh, times, now_ms)
    if reload and not rules.points.ignore_reload:
        return Reuse.REVALIDATE
    if flags & EntryFlag.NO_CACHE:
        return Reuse.REVALIDATE
    if left_ms > 0:
        return Reuse.FRESH
    # The window was set to nought where a directive forbids stale use.
    if -left_ms < times.swr_s * 1000:
        return Reuse.STALE_REVALIDATE_BEHIND
    if wants.max_stale is not None and not flags & _NEVER_STALE and -left_ms <= wants.max_stale * 1000:
        return Reuse.STALE
    return Reuse.REVALIDATE


def allowed_for(request: Request, flags: int, rules: CacheRules) -> bool:
    """Whether a stored response is for such a request at all, fresh or not; False only in the default profile, and for
    one that was stored with Set-Cookie under rules that have changed since.
    """
    fields = request.fields
    points = rules.points
    if flags & EntryFlag.SET_COOKIE and not rules.keeps_set_cookie:
        return False
    if points.guard_cookies and flags & EntryFlag.COOKIELESS and b"cookie" in fields:
        return False
    return not (points.guard_authorization and b"authorization" in fields and not flags & EntryFlag.AUTHORIZED)


def guessed(times: Times, flags: int) -> bool:
    """Whether a stored response is fresh by a guess alone (RFC 9111 4.2.2), which Cache-Status then says."""
    return flags & (EntryFlag.HEURISTIC | EntryFlag.NO_CACHE) == EntryFlag.HEURISTIC and times.fresh_ms > times.born_ms


def may_join(request: Request, flags: int, rules: CacheRules) -> bool:
    """Whether a request that waited for a fetch may be given its response, which is stored with these `flags`.

    Following is reuse: what must be validated before each use (RFC 9111 5.2.2.4) is validated by each request.
    """
    return not flags & EntryFlag.NO_CACHE and allowed_for(request, flags, rules)


def stale_on_error_allowed(
    request: Request, times: Times, flags: int, now_ms: int, rules: CacheRules, status: int
) -> bool:
    """Whether a stale response may be sent since the origin failed with `status` (RFC 9111 4.2.4, 4.3.3, RFC 5861 4).

    `status` is the origin's 5xx, or the 502, 503 or 504 that stands for none. Without a stale-if-error of response or
    request, a response that nothing forbids to be used stale is good for STALE_ON_FAILURE_S.
    """
    if status not in ERROR_STATUSES or flags & _NO_RESPONSE or not allowed_for(request, flags, rules):
        return False
    wants = request_control(request.fields)
    if not rules.points.ignore_reload and _asks_for_validation(wants.no_cache, wants.max_age, None, times, now_ms):
        return False
    stale_ms = now_ms - times.fresh_ms
    if flags & (EntryFlag.NO_CACHE | EntryFlag.NO_STALE):
        return False
    if flags & EntryFlag.MUST_REVALIDATE:
        # The window is there beside s-maxage only, and only where the profile lets it be.
        return times.sie_s > 0 and stale_ms < times.sie_s * 1000
    window_s = times.sie_s or STALE_ON_FAILURE_S
    if wants.stale_if_error is not None and wants.stale_if_error != INVALID:
        window_s = max(window_s, wants.stale_if_error)
    return stale_ms < window_s * 1000


def only_if_cached(request: Request) -> bool:
    """Whether the client wants a stored response or a 504 (RFC 9111 5.2.1.7)."""
    return request_control(request.fields).only_if_cached


def current_age_s(times: Times, now_ms: int) -> int:
    """The value of Age (RFC 9111 4.2.3, 5.1)."""
    return min(max(0, now_ms - times.born_ms) // 1000, DELTA_MAX)


def _asks_for_validation(no_cache: bool, max_age: int | None, min_fresh: int | None, times: Times, now_ms: int) -> bool:
    """RFC 9111 5.2.1.1, 5.2.1.3, 5.2.1.4. A malformed number is ignored."""
    if no_cache:
        return True
    if max_age is not None and max_age != INVALID and now_ms - times.born_ms > max_age * 1000:
        return True
    if max_age == 0:
        return True
    return min_fresh is not None and min_fresh != INVALID and times.fresh_ms - now_ms < min_fresh * 1000
