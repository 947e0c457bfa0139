"""What the operator chose: a profile, and per route the few ways to differ from HTTP. Compiled once, read per request.

The two profiles differ in named points only; each field of `Profile` is one of them. `rfc9111` is RFC 9111 to the
letter, `default` is what is safe in front of an application that anyone may ask anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

ProfileName = Literal["default", "rfc9111"]
SetCookie = Literal["store", "strip"]

TARGETED = (b"cdn-cache-control", b"surrogate-control")
MAX_VARIANTS = 64
MAX_VARY_FIELDS = 8
HIT_FOR_MISS_S = 120.0
# The most that is guessed of a freshness (RFC 9111 4.2.2 names a tenth of the age, and a week is its usual bound).
GUESS_S: dict[str, float] = {"default": 600.0, "rfc9111": 7 * 86400.0}


@dataclass(frozen=True, slots=True)
class Profile:
    """The points in which profiles differ. Every field is False in `rfc9111`."""

    ignore_reload: bool  # a client's no-cache, max-age and min-fresh do not reach the origin (against RFC 9111 5.2.1)
    guard_cookies: bool  # Set-Cookie is not stored, unless the route says how; no guessed freshness beside a Cookie
    guard_authorization: bool  # RFC 9111 3.5 asked of a stored response too before a request with Authorization gets it
    guard_errors: bool  # errors that a request can provoke are not stored, whatever they say
    guard_guesses: bool  # freshness is guessed for 200, 203, 204, 206 and 300 only (RFC 9110 15.1 names more)
    guard_vary: bool  # Vary on Cookie or Authorization only where the route allows it; at most MAX_VARY_FIELDS fields
    guard_paths: bool  # paths with dot segments, plain or encoded, are not stored
    guard_loops: bool  # a redirect to the requested URI itself is not stored
    strict_age: bool  # an Age that is not one number makes a response old (RFC 9111 5.1: ignore it)
    strict_partial: bool  # a 206 whose length belies its Content-Range is not stored, and is not combined or served
    guard_unended: bool  # the whole, sent to a Range request, is stored only where its end can be seen
    refuse_post: bool  # a POST's response is not kept for later GETs (RFC 9110 9.3.3 allows it)
    stale_with_s_maxage: bool  # the windows of RFC 5861 hold beside s-maxage (RFC 9111 5.2.2.10 forbids them)


PROFILES: dict[str, Profile] = {
    "default": Profile(*(True,) * 13),
    "rfc9111": Profile(*(False,) * 13),
}


@dataclass(frozen=True, slots=True)
class Names:
    """A list of names, some with any ending (`utm_*`)."""

    exact: frozenset[bytes]
    prefixes: tuple[bytes, ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Names:
        encoded = [pattern.encode() for pattern in patterns]
        return cls(
            frozenset(name for name in encoded if not name.endswith(b"*")),
            tuple(name[:-1] for name in encoded if name.endswith(b"*")),
        )

    def __contains__(self, name: bytes) -> bool:
        return name in self.exact or name.startswith(self.prefixes)


@dataclass(frozen=True, slots=True, eq=False)
class CacheRules:
    """The rules of one route. Two of them are the same only if they are one object: what is remembered of one is found
    without a look at its values.

    `owner` stands in the key for the backend, b"" for its name: of two backends that had one name after the other,
    neither is given what the other has said.
    """

    profile: str = "default"
    targeted: tuple[bytes, ...] = TARGETED
    ttl_override_s: float | None = None
    query_allow: Names | None = None
    query_deny: Names | None = None
    ignore_cookies: Names | None = None
    keep_cookies: Names | None = None
    vary_allow: frozenset[bytes] | None = None
    max_variants: int = MAX_VARIANTS
    strip_tags: bool = True
    owner: bytes = b""
    set_cookie: SetCookie | None = None
    guess_s: float = -1.0  # below 0: the profile's
    hit_for_miss_s: float = HIT_FOR_MISS_S
    points: Profile = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", PROFILES[self.profile])
        if self.guess_s < 0:
            object.__setattr__(self, "guess_s", GUESS_S[self.profile])

    @property
    def refuses_set_cookie(self) -> bool:
        """Whether a response with Set-Cookie is not stored."""
        return self.set_cookie is None and self.points.guard_cookies

    @property
    def keeps_set_cookie(self) -> bool:
        """Whether Set-Cookie is stored, and taken from a 304 into what is stored."""
        return self.set_cookie == "store" or (self.set_cookie is None and not self.points.guard_cookies)

    @classmethod
    def compile(
        cls,
        *,
        profile: ProfileName = "default",
        targeted: Iterable[str] | None = None,
        ttl_s: float | None = None,
        query_allow: Iterable[str] | None = None,
        query_deny: Iterable[str] | None = None,
        ignore_cookies: Iterable[str] | None = None,
        keep_cookies: Iterable[str] | None = None,
        vary_allow: Iterable[str] | None = None,
        max_variants: int = MAX_VARIANTS,
        strip_tags: bool = True,
        owner: bytes = b"",
        set_cookie: SetCookie | None = None,
        guess_s: float | None = None,
        hit_for_miss_s: float = HIT_FOR_MISS_S,
    ) -> CacheRules:
        """From the words of a configuration (`[cache]` and `[routes.cache]`)."""

        def names(patterns: Iterable[str] | None) -> Names | None:
            return None if patterns is None else Names.of(patterns)

        return cls(
            profile=profile,
            targeted=TARGETED if targeted is None else tuple(name.lower().encode() for name in targeted),
            ttl_override_s=ttl_s,
            query_allow=names(query_allow),
            query_deny=names(query_deny),
            ignore_cookies=names(ignore_cookies),
            keep_cookies=names(keep_cookies),
            vary_allow=None if vary_allow is None else frozenset(name.lower().encode() for name in vary_allow),
            max_variants=max_variants,
            strip_tags=strip_tags,
            owner=owner,
            set_cookie=set_cookie,
            guess_s=-1.0 if guess_s is None else guess_s,
            hit_for_miss_s=hit_for_miss_s,
        )
