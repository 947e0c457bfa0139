"""The key of a resource: what the client named, and which backend speaks for it.

Routes may send the same URL to different backends (by a request field); the backend's name, or what stands for it
(`CacheRules.owner`), is therefore part of the key, so that no route is served another's response. It comes after the
URL, behind a NUL, which no URL can hold:

    https example.com /news/today?page=2 ␀ backend [ ␀ variant ]

What stands before the first NUL is the key's stem: one URL, whatever the variant. The client's path is keyed, not a
rewritten one: that is what a purge, a Location and an invalidation name.
"""

from __future__ import annotations

from flyby.policy import CacheRules, primary_key
from flyby.proxy.router import Match


def resource_key(match: Match, scheme: bytes, host: bytes, path: bytes, rules: CacheRules) -> tuple[bytes, bytes]:
    """The primary key, and `path` without the query parameters that the route leaves out."""
    key, sent = primary_key(scheme, host, path, rules)
    return key + b"\0" + (rules.owner or match.backend.encode()), sent
