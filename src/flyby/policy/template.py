"""Whether a response may be stored, and all that is then known of it but its times (RFC 9111 3, 3.5).

`plan_template` asks the questions in the order in which they are cheap, and gives the first Reason against, or a
Template. It is a function of `Facts` and rules alone, so its result may be remembered under them.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import NamedTuple

from flyby.policy.cache_control import INVALID, CacheControl, control_of
from flyby.policy.entry import EntryFlag
from flyby.policy.facts import REDIRECTS, Facts
from flyby.policy.freshness import HEURISTIC_STATUSES
from flyby.policy.outcome import Reason
from flyby.policy.rules import MAX_VARY_FIELDS, CacheRules
from flyby.policy.tags import TAG_FIELDS
from flyby.policy.update import REPORTING
from flyby.policy.vary import names_in

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

_ABOUT_OTHERS = frozenset((304, 412, 416))
_ABOUT_ONE_CLIENT = frozenset((428, 429, 431, 511))  # RFC 6585 3 to 6: MUST NOT be stored by a cache
_GUESSED_STRICTLY = frozenset((200, 203, 204, 206, 300))
_PERSONAL = frozenset((b"cookie", b"authorization"))
_WITHOUT_FAULT = frozenset((404, 410, 451))

# Without these the content cannot be used, or not selected: a response that forbids their reuse is not stored.
_NEEDED = frozenset((b"content-type", b"content-encoding", b"content-range", b"etag", b"vary"))

_NOT_STORED = REPORTING | {b"age", b"content-length"}
_NOT_STORED_NOR_TAGS = _NOT_STORED | TAG_FIELDS

# A site has few kinds of responses. One whose raw values are longer than this is judged anew each time.
_REMEMBERED_BYTES = 512


class Source(enum.Enum):
    """Where a freshness lifetime comes from (RFC 9111 4.2.1, 4.2.2), in the order of precedence."""

    ROUTE = enum.auto()  # cache.ttl_s
    GIVEN = enum.auto()  # s-maxage, max-age
    EXPIRES = enum.auto()
    GUESS = enum.auto()  # Last-Modified
    NOTHING = enum.auto()


class Template(NamedTuple):
    """What is decided of a response before any time is known."""

    flags: int  # but for NO_STALE and COOKIELESS, where these depend on times
    source: Source
    seconds: float  # of ROUTE and GIVEN; the cap of GUESS
    swr_s: int
    sie_s: int
    kept_stale: bool  # worth keeping though never fresh, for a window of RFC 5861
    explicit_only: bool  # a guess is not enough (RFC 9110 9.3.3)
    beside_cookie: bool  # the request has a Cookie, and the profile minds
    needs_freshness: bool  # the profile keeps nothing that says nothing of its freshness, nor no-cache
    shares_dates: bool  # a Last-Modified is the only validator and nothing says `public`
    strict_age: bool
    vary: tuple[bytes, ...]
    dropped: frozenset[bytes]  # fields that are not stored, nor sent to anybody
    withheld: frozenset[bytes]  # fields that are not stored, but sent to the client whose request was forwarded


def plan_template(facts: Facts, rules: CacheRules) -> Template | Reason:
    """RFC 9111 3, but for times: the Template of a response, or the Reason why it is not stored."""
    control = control_of(facts.control, rules.targeted)
    refused = _request_refusal(facts, control, rules)
    if refused is None:
        refused = _response_refusal(facts, control, rules)
    if refused is not None:
        return refused
    names = names_in(facts.vary)
    if names is None:
        return Reason.VARY_STAR
    refused = _vary_refusal(names, rules)
    if refused is not None:
        return refused
    source, seconds = _source(facts, control, rules)
    flags = _flags(facts, control, source, seconds)
    if facts.set_cookie and rules.keeps_set_cookie:
        flags |= EntryFlag.SET_COOKIE
    # RFC 9111 4.2.4: stale use can be allowed only where nothing forbids it.
    forbidden = control.no_cache or control.must_revalidate or control.proxy_revalidate
    windows = not forbidden and (control.s_maxage is None or rules.points.stale_with_s_maxage)
    swr_s, sie_s = max(control.stale_while_revalidate or 0, 0), max(control.stale_if_error or 0, 0)
    withheld = frozenset(control.no_cache_fields + control.private_fields)
    if rules.set_cookie == "strip":
        withheld |= {b"set-cookie"}
    return Template(
        flags=flags,
        source=source,
        seconds=seconds,
        swr_s=swr_s if windows else 0,
        sie_s=sie_s if windows else 0,
        kept_stale=swr_s > 0 or sie_s > 0,
        explicit_only=facts.method == b"POST",
        beside_cookie=facts.cookie and rules.points.guard_cookies,
        needs_freshness=rules.points.guard_guesses and not control.no_cache,
        shares_dates=facts.last_modified and not facts.etag and not control.public,
        strict_age=rules.points.strict_age,
        vary=names,
        dropped=_NOT_STORED_NOR_TAGS if rules.strip_tags else _NOT_STORED,
        withheld=withheld,
    )


_remembered = lru_cache(maxsize=1024)(plan_template)


def template_for(facts: Facts, rules: CacheRules) -> Template | Reason:
    """`plan_template`, remembered."""
    size = len(facts.vary or b"") + sum(len(value) for value in facts.control if value is not None)
    return plan_template(facts, rules) if size > _REMEMBERED_BYTES else _remembered(facts, rules)


def _request_refusal(facts: Facts, control: CacheControl, rules: CacheRules) -> Reason | None:
    if facts.method == b"POST":
        # RFC 9110 9.3.3: it is a representation of the target if its Content-Location says so.
        if rules.points.refuse_post or not facts.describes_target:
            return Reason.METHOD
    elif facts.method != b"GET":
        return Reason.METHOD
    elif facts.content:
        return Reason.CONTENT
    if facts.no_store:
        return Reason.REQUEST_NO_STORE
    if rules.points.guard_paths and facts.dotted:
        return Reason.PATH
    if facts.authorization and not _shared(control):
        return Reason.AUTHORIZATION
    return None


def _shared(control: CacheControl) -> bool:
    """RFC 9111 3.5: the directives that let a shared cache reuse a response to a request with Authorization."""
    return control.public or control.must_revalidate or control.s_maxage is not None


def _response_refusal(facts: Facts, control: CacheControl, rules: CacheRules) -> Reason | None:
    status, points = facts.status, rules.points
    if not 200 <= status <= 599 or status in _ABOUT_OTHERS:
        return Reason.STATUS
    if control.malformed:
        return Reason.MALFORMED
    if control.must_understand and status not in UNDERSTOOD:
        return Reason.NOT_UNDERSTOOD
    if control.no_store and not control.must_understand:
        return Reason.NO_STORE
    if control.private or (control.private_fields and points.guard_cookies):
        return Reason.PRIVATE
    if facts.set_cookie and rules.refuses_set_cookie:
        return Reason.SET_COOKIE
    if status in _ABOUT_ONE_CLIENT:
        return Reason.STATUS
    if not _NEEDED.isdisjoint(control.no_cache_fields + control.private_fields):
        return Reason.NEEDED_FIELD
    if status == 206:
        # RFC 9111 3.3: a part is stored when it was asked for and says which one it is.
        unasked = not facts.ranged or facts.method != b"GET"
        return Reason.CONTENT_RANGE if unasked or not facts.part or _inexact(facts, rules) else None
    if facts.ranged and not facts.delimited and points.guard_unended:
        return Reason.UNENDED
    if points.guard_errors and status >= 400 and _provoked(facts):
        return Reason.PROVOKED
    if points.guard_loops and status in REDIRECTS and facts.loops:
        return Reason.REDIRECT_LOOP
    return None


def _inexact(facts: Facts, rules: CacheRules) -> bool:
    return rules.points.strict_partial and not facts.exact


def _provoked(facts: Facts) -> bool:
    return facts.status in PROVOKED or (facts.status not in _WITHOUT_FAULT and facts.provoking)


def _vary_refusal(names: tuple[bytes, ...], rules: CacheRules) -> Reason | None:
    if rules.vary_allow is not None:
        return None if rules.vary_allow.issuperset(names) else Reason.VARY_REFUSED
    if rules.points.guard_vary:
        if _PERSONAL.intersection(names):
            return Reason.VARY_PERSONAL
        if len(names) > MAX_VARY_FIELDS:
            return Reason.VARY_FIELDS
    return None


def _source(facts: Facts, control: CacheControl, rules: CacheRules) -> tuple[Source, float]:
    """What says how long the response is fresh, and the seconds that go with it (see `Template.seconds`)."""
    status = facts.status
    if rules.ttl_override_s is not None and (status < 400 or status in (404, 410)):
        return Source.ROUTE, rules.ttl_override_s
    for given in (control.s_maxage, control.max_age):
        if given is not None:
            return Source.GIVEN, given
    # A targeted field is used in place of Cache-Control and Expires both (RFC 9213 2.2).
    if facts.expires and not control.targeted:
        return Source.EXPIRES, 0
    guessable = status in HEURISTIC_STATUSES or control.public
    if facts.last_modified and guessable and (status in _GUESSED_STRICTLY or not rules.points.guard_guesses):
        return Source.GUESS, rules.guess_s
    return Source.NOTHING, 0


def _flags(facts: Facts, control: CacheControl, source: Source, seconds: float) -> int:
    flags = 0
    if control.must_revalidate or control.proxy_revalidate or control.s_maxage is not None:
        flags |= EntryFlag.MUST_REVALIDATE
    if control.no_cache:
        flags |= EntryFlag.NO_CACHE
    if control.public:
        flags |= EntryFlag.PUBLIC
    if _shared(control):
        flags |= EntryFlag.AUTHORIZED
    if facts.etag or facts.last_modified:
        flags |= EntryFlag.VALIDATOR
    if facts.status == 206:
        flags |= EntryFlag.PARTIAL
    if source is Source.GUESS or source is Source.NOTHING:
        flags |= EntryFlag.HEURISTIC
        # With no-cache and an entity tag nothing is guessed: each use is validated, by what names one page.
        if not control.public and not (control.no_cache and facts.etag):
            flags |= EntryFlag.COOKIELESS
    elif source is Source.GIVEN and seconds == INVALID:
        flags |= EntryFlag.NO_STALE
    return flags
