"""How a response is to be stored: what is decided of its kind, and then its times (RFC 9111 3, 4.2).

    request, response ── facts_of ──▶ Facts ── plan_template ──▶ Template ─┐
                         (facts)                (template)                 ├─ times ──▶ Times, flags ──▶ Plan
    response ── stamps_of ──▶ Stamps ──────────────────────────────────────┘

`storable` is the composition, with a memory of Templates. A caller that remembers them itself, by what it knows of a
response, calls `times` alone; no rule is told in two places. Everything that a hit needs to know is decided here, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from flyby.policy.age import initial_age_ms
from flyby.policy.entry import EntryFlag, Request, Response, Times
from flyby.policy.facts import facts_of
from flyby.policy.freshness import Stamps, expires_lifetime, guessed_lifetime, stamps_of
from flyby.policy.outcome import Reason
from flyby.policy.rules import CacheRules
from flyby.policy.tags import response_tags
from flyby.policy.template import Source, Template, template_for
from flyby.wire import Fields, strip_hop_by_hop


@dataclass(slots=True)
class Plan:
    """How a response is to be stored. `head` has neither framing nor Age nor what belongs to one connection, nor the
    fields that named its tags, if these are kept from clients, nor those of `withheld`.

    `withheld` are names of fields that the response has, and that go to the client whose own request was forwarded and
    to nobody else: named by `no-cache="…"` or `private="…"` (RFC 9111 5.2.2.4, 5.2.2.7), or a Set-Cookie that the route
    strips.
    """

    times: Times
    flags: int
    head: Fields
    vary: tuple[bytes, ...]
    tags: tuple[bytes, ...] = ()
    withheld: frozenset[bytes] = frozenset()


def storable(
    request: Request, response: Response, *, request_ms: int, response_ms: int, rules: CacheRules, skew_ms: int = 0
) -> Plan | Reason:
    """RFC 9111 3: the Plan for a response, or the Reason why it is not stored.

    `request_ms` and `response_ms` are when the request was sent and the response's head had come (4.2.3), `skew_ms` by
    how much that clock is ahead of the wall clock (see `clock.steady_ms`).
    """
    template = template_for(facts_of(request, response, rules), rules)
    if isinstance(template, Reason):
        return template
    tags = response_tags(response.fields)
    if tags is None:
        return Reason.TAGS
    known = times(template, stamps_of(response.fields), request_ms, response_ms, skew_ms)
    if isinstance(known, Reason):
        return known
    when, flags = known
    return Plan(
        times=when,
        flags=flags,
        head=stored_fields(response.fields, template),
        vary=template.vary,
        tags=tags,
        withheld=frozenset(name for name in template.withheld if name in response.fields),
    )


def times(
    template: Template, stamps: Stamps, request_ms: int, response_ms: int, skew_ms: int = 0
) -> tuple[Times, int] | Reason:
    """The times and the flags of a response of that kind, or the Reason why it is not worth keeping.

    Depends on the fields of `freshness.TIME_FIELDS` alone.
    """
    flags = template.flags
    wall_ms = response_ms - skew_ms
    seconds = _lifetime(template, stamps, wall_ms)
    if flags & EntryFlag.HEURISTIC and (template.explicit_only or (seconds is None and template.needs_freshness)):
        return Reason.NO_FRESHNESS
    if seconds is None:
        seconds = 0
        if template.source is Source.EXPIRES:
            flags |= EntryFlag.NO_STALE
    if seconds <= 0 or flags & EntryFlag.NO_CACHE:
        # Never fresh: of use only to be validated, or while it may be served stale.
        if seconds <= 0 and not flags & EntryFlag.VALIDATOR and not template.kept_stale:
            return Reason.NO_FRESHNESS
        if template.shares_dates and not template.swr_s:
            # Two visitors' pages may have one date, and a 304 would then give one of them the other's. What may be
            # served while it is validated was made for all, as what is fresh for a while.
            flags |= EntryFlag.COOKIELESS
    if template.beside_cookie and flags & EntryFlag.COOKIELESS:
        return Reason.COOKIE
    born_ms = response_ms - initial_age_ms(stamps, request_ms, response_ms, wall_ms, template.strict_age)
    fresh_ms = born_ms + seconds * 1000
    if template.source is Source.ROUTE:
        fresh_ms = response_ms + round(template.seconds * 1000)
    return Times(born_ms, fresh_ms, template.swr_s, template.sie_s), flags


def _lifetime(template: Template, stamps: Stamps, wall_ms: int) -> int | None:
    """The freshness lifetime (RFC 9111 4.2.1, 4.2.2); None when nothing is said, or nothing that can be read."""
    if template.source is Source.EXPIRES:
        return expires_lifetime(stamps, wall_ms)
    if template.source is Source.GUESS:
        return guessed_lifetime(stamps, wall_ms, template.seconds)
    return None if template.source is Source.NOTHING else max(0, ceil(template.seconds))


def stored_fields(fields: Fields, template: Template) -> Fields:
    """The fields that are stored (RFC 9111 3.1)."""
    return strip_hop_by_hop(fields).without(template.dropped | template.withheld)
