"""The one table of what can become of a request, and why; header, log and metric are all fed from it (RFC 9211).

`Outcome` says where the response came from, `Reason` why it did not come from the store, or was not kept there. Their
values are the words that the log and the metrics show. `cache_status` renders both as a Cache-Status list member:

    flyby; hit; ttl=30
    flyby; fwd=uri-miss; fwd-status=200; stored
    flyby; fwd=miss; fwd-status=200; detail=set-cookie
"""

from __future__ import annotations

import enum
import re

CACHE_NAME = b"flyby"

_TOKEN = re.compile(rb"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*\Z")
_NOT_STRING = re.compile(rb"[^\x20-\x7e]")


class Outcome(enum.StrEnum):
    """Where the response to a request came from."""

    HIT = "hit"  # from the store, fresh
    STALE = "stale"  # from the store, past its freshness, as RFC 5861 or 9111 4.2.4 allows
    REVALIDATED = "revalidated"  # from the store, after the origin said 304
    MISS = "miss"  # from the origin, on a road that the store may learn from
    PASS = "pass"  # from the origin, never meant for the store
    PIPE = "pipe"  # an upgraded connection, bytes both ways
    LOCAL = "local"  # made by the edge: a redirect, a purge
    ERROR = "error"  # the edge's own error page


class Reason(enum.StrEnum):
    """Why a request went forward, or a response was not stored."""

    # Why a request was forwarded: the values of RFC 9211 2.2, then our own.
    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    MISS = "miss"
    REQUEST = "request"
    STALE = "stale"
    PARTIAL = "partial"
    HIT_FOR_MISS = "hit-for-miss"
    UPGRADE = "upgrade"
    COLLAPSED = "collapsed"
    COOKIE = "cookie"
    AUTHORIZATION = "authorization"
    ONLY_IF_CACHED = "only-if-cached"
    ORIGIN_FAILED = "origin-failed"

    # Why a response was not stored (RFC 9111 3).
    CONTENT = "request-content"
    STATUS = "status"
    NOT_UNDERSTOOD = "must-understand"
    REQUEST_NO_STORE = "request-no-store"
    NO_STORE = "no-store"
    PRIVATE = "private"
    SET_COOKIE = "set-cookie"
    NEEDED_FIELD = "needed-field"
    NO_FRESHNESS = "no-freshness"
    VARY_STAR = "vary-star"
    VARY_FIELDS = "vary-fields"
    VARY_PERSONAL = "vary-personal"
    VARY_REFUSED = "vary-refused"
    VARIANTS = "variants"
    TAGS = "tags"
    PROVOKED = "provokable-error"
    REDIRECT_LOOP = "redirect-loop"
    PATH = "dot-segments"
    MALFORMED = "malformed-cache-control"
    CONTENT_RANGE = "content-range"
    UNENDED = "unended"
    TOO_LARGE = "too-large"
    INCOMPLETE = "incomplete"  # the origin broke a begun response off
    CLIENT_LEFT = "client-left"  # the client did, or before it began
    ROUTE = "route-off"

    # What is said of a response that was stored, or came from the store.
    GUESSED = "guessed"


# RFC 9211 2.2 has these words and no others; every other reason travels as `detail`.
_FORWARDED: dict[Reason, bytes] = {
    Reason.BYPASS: b"bypass",
    Reason.METHOD: b"method",
    Reason.URI_MISS: b"uri-miss",
    Reason.VARY_MISS: b"vary-miss",
    Reason.MISS: b"miss",
    Reason.REQUEST: b"request",
    Reason.STALE: b"stale",
    Reason.PARTIAL: b"partial",
    Reason.HIT_FOR_MISS: b"miss",
    Reason.UPGRADE: b"bypass",
    Reason.COLLAPSED: b"miss",
    Reason.COOKIE: b"request",
    Reason.AUTHORIZATION: b"request",
    Reason.ORIGIN_FAILED: b"stale",
    Reason.CONTENT: b"request",
    Reason.REQUEST_NO_STORE: b"request",
    Reason.ROUTE: b"bypass",
}
_SAID_BY_FWD = frozenset(reason for reason, word in _FORWARDED.items() if reason.value.encode() == word)

# What forwarding means when no reason is given.
_FORWARDED_BY_OUTCOME: dict[Outcome, bytes] = {
    Outcome.REVALIDATED: b"stale",
    Outcome.MISS: b"miss",
    Outcome.PASS: b"bypass",
    Outcome.PIPE: b"bypass",
}


def cache_status(
    outcome: Outcome,
    reason: Reason | None = None,
    *,
    ttl_s: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    fwd_status: int | None = None,
    detail: str | bytes | None = None,
) -> bytes:
    """Our member of Cache-Status (RFC 9211 2): `hit` when nothing was forwarded (2.1), else `fwd` (2.2).

    `ttl_s` is the freshness left, negative when stale (2.5); `stored` (2.4), `collapsed` (2.6) and `fwd_status` (2.3)
    are only said of a forwarded request. Without a `detail` (2.8), a reason that is no `fwd` value is given as the
    detail.
    """
    member = CACHE_NAME
    forwarded: bytes | None = None
    if outcome is Outcome.HIT or (outcome is Outcome.STALE and reason is not Reason.ORIGIN_FAILED):
        member += b"; hit"
    elif outcome is not Outcome.LOCAL and outcome is not Outcome.ERROR:
        word = _FORWARDED.get(reason) if reason is not None else None
        forwarded = word or _FORWARDED_BY_OUTCOME.get(outcome, b"stale" if outcome is Outcome.STALE else b"miss")
        member += b"; fwd=" + forwarded
        if fwd_status is not None:
            member += b"; fwd-status=%d" % fwd_status
    if ttl_s is not None:
        member += b"; ttl=%d" % ttl_s
    if forwarded is not None:
        member += (b"; stored" if stored else b"") + (b"; collapsed" if collapsed else b"")
    text = detail.encode() if isinstance(detail, str) else detail
    if text is None and reason is not None and reason not in _SAID_BY_FWD:
        text = None if collapsed and reason is Reason.COLLAPSED else reason.value.encode()
    if text is not None:
        member += b"; detail=" + _bare(text)
    return member


def _bare(text: bytes) -> bytes:
    """A token where the text is one, else a string (RFC 9651 4.1.6, 4.1.7)."""
    if _TOKEN.match(text):
        return text
    text = _NOT_STRING.sub(b"?", text)
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
