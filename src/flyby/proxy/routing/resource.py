"""The key of a resource: what the client named, and which backend speaks for it.

Routes may send the same URL to different backends (by a request field); the backend's name, or what stands for it
(`CacheRules.owner`), is therefore part of the key, so that no route is served another's response. It comes after the
URL, behind a NUL, which no URL can hold:

    https example.com /news/today?page=2 ␀ backend [ ␀ variant ]

What stands before the first NUL is the key's stem: one URL, whatever the variant. The client's path is keyed, not a
rewritten one: that is what a purge, a Location and an invalidation name.
"""

from __future__ import annotations

import re

from flyby.policy import CacheRules, primary_key
from flyby.proxy.routing.router import Match

# Scheme, host, and the first segment of the path.
_PLACE = re.compile(rb"[^ ]+ [^ ]+ (/[^/?\0]*)")


def resource_key(match: Match, scheme: bytes, host: bytes, path: bytes, rules: CacheRules) -> tuple[bytes, bytes]:
    """The primary key, and `path` without the query parameters that the route leaves out."""
    key, sent = primary_key(scheme, host, path, rules)
    return stem_key(key, rules.owner or match.backend.encode()), sent


def stem_key(stem: bytes, owner: bytes) -> bytes:
    """The key of a URL as the backend of that name or `CacheRules.owner` answers it."""
    return stem + b"\0" + owner


def place_of(key: bytes) -> tuple[int, int]:
    """How much of a key, or of the beginning of one, names the host, and how much the first segment of the path too.

    By these the store finds again what lies there (`Store.purge_prefix`).
    """
    match = _PLACE.match(key)
    assert match is not None
    return match.start(1), match.end(1)
