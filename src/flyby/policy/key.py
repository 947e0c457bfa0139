"""The cache key (RFC 9111 2), and what must not reach the origin because the key does not cover it.

The rule: the key covers every input that the origin can see, or the origin does not see it. Scheme, host and the raw
path with the raw query are keyed byte for byte, with a space between, which none of them can hold, so that no part can
spill into the next; and in this order, so that the keys of a host, or below a path, begin alike:

    https example.com /news/today?page=2

A query parameter that the route excludes is taken out of the forwarded path too, and request fields that are
known to make an application answer for another URI, host, scheme or method are not forwarded where the response might
be stored.
"""

from __future__ import annotations

import re

from flyby.policy.rules import CacheRules
from flyby.wire import Fields

# In `-` spelling; a name with `_` for `-` is the same to CGI, WSGI and PHP.
UNKEYED = frozenset(
    {
        b"forwarded",
        b"x-forwarded",
        b"x-forwarded-by",
        b"x-forwarded-host",
        b"x-forwarded-path",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-protocol",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-forwarded-uri",
        b"x-forwarded-url",
        b"x-forwarded-method",
        b"front-end-https",
        b"x-https",
        b"x-scheme",
        b"x-url-scheme",
        b"x-host",
        b"x-http-host-override",
        b"x-original-host",
        b"x-base-url",
        b"base-url",
        b"x-original-uri",
        b"x-original-url",
        b"x-override-url",
        b"x-rewrite-url",
        b"x-rewrite-uri",
        b"x-request-uri",
        b"x-script-name",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method",
        b"x-method-override",
        b"x-http-path-override",
        b"x-invoke-path",
        b"x-invoke-query",
        b"x-invoke-status",
        b"x-matched-path",
        b"x-middleware-rewrite",
        b"x-middleware-subrequest",
        b"x-now-route-matches",
    }
)

_DOTS = re.compile(rb"(?:^|/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:\Z|/|\\|%2f|%5c|;)", re.IGNORECASE)


def primary_key(scheme: bytes, host: bytes, path: bytes, rules: CacheRules) -> tuple[bytes, bytes]:
    """The key of a resource (RFC 9111 2), and the path to ask the origin for."""
    path = forwarded_path(path, rules)
    return b"%b %b %b" % (scheme, host, path), path


def forwarded_path(path: bytes, rules: CacheRules) -> bytes:
    """`path` without the query parameters that the route excludes; parameters are split at `&` alone."""
    if rules.query_allow is None and rules.query_deny is None:
        return path
    before, mark, query = path.partition(b"?")
    if not mark:
        return path
    kept = [part for part in query.split(b"&") if _keeps(part.partition(b"=")[0], rules)]
    return before + b"?" + b"&".join(kept) if kept else before


def _keeps(name: bytes, rules: CacheRules) -> bool:
    if rules.query_allow is not None and name not in rules.query_allow:
        return False
    return rules.query_deny is None or name not in rules.query_deny


def drop_unkeyed(fields: Fields) -> Fields:
    """A copy of a request's fields without those that would steer the origin past the key."""
    dropped = {name.lower() for name, _ in fields}
    dropped = {name for name in dropped if name.replace(b"_", b"-") in UNKEYED}
    return fields.without(dropped) if dropped else fields.copy()


def filter_cookies(fields: Fields, rules: CacheRules) -> Fields:
    """A copy of a request's fields without the cookies that the route ignores; neither key nor origin sees those."""
    lines = fields.get_all(b"cookie")
    if not lines or (rules.ignore_cookies is None and rules.keep_cookies is None):
        return fields.copy()
    kept = []
    for pair in b";".join(lines).split(b";"):
        pair = pair.strip(b" \t")
        name = pair.partition(b"=")[0].strip(b" \t")
        ignored = rules.ignore_cookies is not None and name in rules.ignore_cookies
        if pair and not ignored and (rules.keep_cookies is None or name in rules.keep_cookies):
            kept.append(pair)
    copy = fields.copy()
    copy.remove(b"cookie")
    if kept:
        copy.add(b"Cookie", b"; ".join(kept))
    return copy


def has_dot_segments(path: bytes) -> bool:
    """Whether an origin might resolve `path` to another one: `.` or `..` segments, plain or encoded (RFC 3986
    5.2.4).
    """
    return _DOTS.search(path.partition(b"?")[0]) is not None
