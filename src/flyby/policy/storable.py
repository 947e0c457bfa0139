"""Whether a response may be stored, and what is then known of it for good (RFC 9111 3, 3.5).

`storable` asks the questions in the order in which they are cheap, and gives the first Reason against, or a Plan: the
times, the flags and the fields to store. Everything that a hit needs to know is decided here, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from flyby.policy.age import corrected_initial_age_ms
from flyby.policy.cache_control import CacheControl, delta_seconds, request_control, response_control
from flyby.policy.entry import EntryFlag, Request, Response, Times
from flyby.policy.freshness import Lifetime, lifetime
from flyby.policy.invalidation import resolve
from flyby.policy.key import has_dot_segments
from flyby.policy.outcome import Reason
from flyby.policy.ranges import parse_content_range
from flyby.policy.rules import MAX_VARY_FIELDS, CacheRules
from flyby.policy.tags import TAG_FIELDS, response_tags
from flyby.policy.update import REPORTING
from flyby.policy.vary import vary_names
from flyby.wire import Fields, strip_hop_by_hop

# The final statuses of RFC 9110 15 and its kin, whose caching rules we follow; 304 and 416 are about other responses.
UNDERSTOOD = frozenset(
    (
        *(200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 305, 307, 308),
        *(400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 417),
        *(421, 422, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 511),
    )
)

# What these say depends on more of the request than the key, and anyone can send such a request (trust: CPDoS).
PROVOKED = frozenset(status for status in UNDERSTOOD if 400 <= status < 500) - {404, 410, 451} | {416}

_NEVER = frozenset((304, 412, 416))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_GUESSED_STRICTLY = frozenset((200, 203, 204, 206, 300))
_PERSONAL = frozenset((b"cookie", b"authorization"))

# A server error is believed to be cacheable, where it says so, only after a request with nothing unusual about it.
_PROVOKING = (b"range", b"if-range", b"if-match", b"if-unmodified-since", b"expect", b"upgrade", b"te", b"content-type")
_PLAIN_VALUE = 1024
_PLAIN_TOTAL = 4096

_NOT_STORED = REPORTING | {b"age", b"content-length"}


@dataclass(slots=True)
class Plan:
    """How a response is to be stored. `head` has neither framing nor Age nor what belongs to one connection,
    nor the fields that named its tags, if these are kept from clients."""

    times: Times
    flags: int
    head: Fields
    vary: tuple[bytes, ...]
    tags: tuple[bytes, ...] = ()


def storable(
    request: Request, response: Response, *, request_ms: int, response_ms: int, rules: CacheRules
) -> Plan | Reason:
    """RFC 9111 3: the Plan for a response, or the Reason why it is not stored.

    `request_ms` and `response_ms` are when the request was sent and the response's head had come (4.2.3).
    """
    fields = response.fields
    control = response_control(fields, rules.targeted)
    refused = _request_refusal(request, response, control, rules)
    if refused is None:
        refused = _response_refusal(request, response, control, rules)
    if refused is not None:
        return refused
    names = vary_names(fields)
    if names is None:
        return Reason.VARY_STAR
    refused = _vary_refusal(names, rules)
    if refused is not None:
        return refused
    tags = response_tags(fields)
    if tags is None:
        return Reason.TAGS
    overridden = rules.ttl_override_s is not None and (response.status < 400 or response.status in (404, 410))
    ttl_s = rules.ttl_override_s if overridden else None
    life = _lifetime(response, control, response_ms, rules) if ttl_s is None else Lifetime(ceil(ttl_s), True)
    flags = _flags(response, control, life)
    refused = _freshness_refusal(request, response, control, life, flags, rules)
    if refused is not None:
        return refused
    times = _times(fields, control, life, request_ms, response_ms, rules)
    if ttl_s is not None:
        times.fresh_ms = response_ms + round(ttl_s * 1000)
    return Plan(
        times=times,
        flags=flags,
        head=stored_fields(fields, control, TAG_FIELDS if rules.strip_tags else frozenset()),
        vary=names,
        tags=tags,
    )


def stored_fields(fields: Fields, control: CacheControl, stripped: frozenset[bytes] = frozenset()) -> Fields:
    """The fields that are stored (RFC 9111 3.1): without those that the response keeps from caches by name
    (5.2.2.4, .7), nor the `stripped` ones.
    """
    return strip_hop_by_hop(fields).without(
        _NOT_STORED.union(stripped, control.no_cache_fields, control.private_fields)
    )


def has_content(request: Request) -> bool:
    """Whether a request came with content (RFC 9110 6.4), which no key covers."""
    length = request.fields.get(b"content-length")
    return b"transfer-encoding" in request.fields or (length is not None and delta_seconds(length) != 0)


def _request_refusal(request: Request, response: Response, control: CacheControl, rules: CacheRules) -> Reason | None:
    if request.method == b"POST":
        if rules.points.refuse_post or not _describes_target(request, response):
            return Reason.METHOD
    elif request.method != b"GET":
        return Reason.METHOD
    elif has_content(request):
        return Reason.CONTENT
    if request_control(request.fields).no_store:
        return Reason.REQUEST_NO_STORE
    if rules.points.guard_paths and has_dot_segments(request.path):
        return Reason.PATH
    if b"authorization" in request.fields and not _shared(control):
        return Reason.AUTHORIZATION
    return None


def _describes_target(request: Request, response: Response) -> bool:
    """RFC 9110 9.3.3: the response to a POST is a representation of the target if its Content-Location says so."""
    location = response.fields.get(b"content-location")
    return location is not None and resolve(request, location) == (request.scheme, request.host, request.path)


def _shared(control: CacheControl) -> bool:
    """RFC 9111 3.5: the directives that let a shared cache reuse a response to a request with Authorization."""
    return control.public or control.must_revalidate or control.s_maxage is not None


def _response_refusal(request: Request, response: Response, control: CacheControl, rules: CacheRules) -> Reason | None:
    status = response.status
    if not 200 <= status <= 599 or status in _NEVER:
        return Reason.STATUS
    if control.malformed:
        return Reason.MALFORMED
    understood = status in UNDERSTOOD
    if control.must_understand and not understood:
        return Reason.NOT_UNDERSTOOD
    if control.no_store and not control.must_understand:
        return Reason.NO_STORE
    points = rules.points
    if control.private or (control.private_fields and points.guard_cookies):
        return Reason.PRIVATE
    if points.guard_cookies and b"set-cookie" in response.fields and not control.public and control.s_maxage is None:
        return Reason.SET_COOKIE
    if status == 206:
        return _partial_refusal(request, response, rules)
    if points.guard_errors and status >= 400 and _provoked(request, status):
        return Reason.PROVOKED
    if points.guard_loops and status in _REDIRECTS and _loops(request, response):
        return Reason.REDIRECT_LOOP
    return None


def _partial_refusal(request: Request, response: Response, rules: CacheRules) -> Reason | None:
    """RFC 9111 3.3: a 206 is stored when it was asked for and says which one part it is."""
    held = parse_content_range(response.fields.get(b"content-range"))
    if held is None or b"range" not in request.fields or request.method != b"GET":
        return Reason.CONTENT_RANGE
    length = response.fields.get(b"content-length")
    if rules.points.strict_partial and length is not None and length != b"%d" % held.length:
        return Reason.CONTENT_RANGE
    return None


def _provoked(request: Request, status: int) -> bool:
    if status in PROVOKED:
        return True
    if status in (404, 410, 451):
        return False
    fields = request.fields
    total = sum(len(name) + len(value) for name, value in fields)
    return (
        total > _PLAIN_TOTAL
        or any(name in fields for name in _PROVOKING)
        or any(len(value) > _PLAIN_VALUE or not value.isascii() for _, value in fields)
    )


def _loops(request: Request, response: Response) -> bool:
    location = response.fields.get(b"location")
    return location is not None and resolve(request, location) == (request.scheme, request.host, request.path)


def _vary_refusal(names: tuple[bytes, ...], rules: CacheRules) -> Reason | None:
    if rules.vary_allow is not None:
        return None if rules.vary_allow.issuperset(names) else Reason.VARY_REFUSED
    if rules.points.guard_vary:
        if _PERSONAL.intersection(names):
            return Reason.VARY_PERSONAL
        if len(names) > MAX_VARY_FIELDS:
            return Reason.VARY_FIELDS
    return None


def _lifetime(response: Response, control: CacheControl, response_ms: int, rules: CacheRules) -> Lifetime | None:
    life = lifetime(response.status, response.fields, control, response_ms)
    guessed = life is not None and not life.explicit
    return None if guessed and rules.points.guard_guesses and response.status not in _GUESSED_STRICTLY else life


def _flags(response: Response, control: CacheControl, life: Lifetime | None) -> int:
    fields = response.fields
    flags = 0
    if control.must_revalidate or control.proxy_revalidate or control.s_maxage is not None:
        flags |= EntryFlag.MUST_REVALIDATE
    if control.no_cache:
        flags |= EntryFlag.NO_CACHE
    if control.public:
        flags |= EntryFlag.PUBLIC
    if _shared(control):
        flags |= EntryFlag.AUTHORIZED
    if fields.get(b"etag") or fields.get(b"last-modified"):
        flags |= EntryFlag.VALIDATOR
    if b"set-cookie" in fields:
        flags |= EntryFlag.SET_COOKIE
    if response.status == 206:
        flags |= EntryFlag.PARTIAL
    if life is None or not life.explicit:
        flags |= EntryFlag.HEURISTIC
    elif life.invalid:
        flags |= EntryFlag.NO_STALE
    return flags


def _freshness_refusal(
    request: Request,
    response: Response,
    control: CacheControl,
    life: Lifetime | None,
    flags: int,
    rules: CacheRules,
) -> Reason | None:
    """The last condition of RFC 9111 3: there is something that makes the response worth keeping."""
    if request.method == b"POST" and (life is None or not life.explicit):
        return Reason.NO_FRESHNESS  # RFC 9110 9.3.3: explicit freshness only
    guessed = life is None or not life.explicit
    if guessed and rules.points.guard_cookies and b"cookie" in request.fields and not control.public:
        return Reason.COOKIE
    if life is None and rules.points.guard_guesses and not control.no_cache:
        return Reason.NO_FRESHNESS
    if life is not None and life.seconds > 0:
        return None
    # Never fresh: of use only to be validated, or while it may be served stale.
    kept_stale = (control.stale_if_error or 0) > 0 or (control.stale_while_revalidate or 0) > 0
    return None if flags & EntryFlag.VALIDATOR or kept_stale else Reason.NO_FRESHNESS


def _times(
    fields: Fields, control: CacheControl, life: Lifetime | None, request_ms: int, response_ms: int, rules: CacheRules
) -> Times:
    born_ms = response_ms - corrected_initial_age_ms(fields, request_ms, response_ms, rules.points.strict_age)
    fresh_ms = born_ms + (life.seconds if life is not None else 0) * 1000
    # RFC 9111 4.2.4: stale use can be allowed only where nothing forbids it.
    forbidden = control.no_cache or control.must_revalidate or control.proxy_revalidate
    if forbidden or (control.s_maxage is not None and not rules.points.stale_with_s_maxage):
        return Times(born_ms, fresh_ms)
    return Times(
        born_ms,
        fresh_ms,
        swr_s=max(control.stale_while_revalidate or 0, 0),
        sie_s=max(control.stale_if_error or 0, 0),
    )
