"""How long a key is marked when its last answer could not be stored."""

from __future__ import annotations

import pytest

from flyby.policy import CacheRules, Reason, mark_for


@pytest.mark.parametrize(
    ("status", "reason", "seconds"),
    [
        (200, Reason.NO_STORE, 120),
        (200, Reason.PRIVATE, 120),
        (200, Reason.SET_COOKIE, 120),
        (302, Reason.NO_FRESHNESS, 120),
        (200, Reason.VARY_STAR, 120),
        (200, Reason.TOO_LARGE, 120),
        (404, Reason.NO_FRESHNESS, 2),
        (429, Reason.STATUS, 2),
        (503, Reason.NO_FRESHNESS, 2),
        (None, Reason.ORIGIN_FAILED, 2),
        (200, Reason.COOKIE, 2),
        (200, Reason.AUTHORIZATION, 2),
        (200, Reason.REQUEST_NO_STORE, 2),
        (206, Reason.CONTENT_RANGE, 2),
        (200, Reason.UNENDED, 2),
        (200, Reason.INCOMPLETE, 2),
    ],
)
def test_how_long_a_key_is_marked(status: int | None, reason: Reason, seconds: float) -> None:
    assert mark_for(status, reason, CacheRules()) == seconds
    assert mark_for(status, reason, CacheRules(hit_for_miss_s=1)) == 1
    assert mark_for(status, reason, CacheRules.compile(hit_for_miss_s=0)) == 0
