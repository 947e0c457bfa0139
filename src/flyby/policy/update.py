"""Bringing a stored response's fields up to date, from a 304 (RFC 9111 3.2, 4.3.4) or a HEAD (4.3.5).

Every field of the new head replaces the stored lines of its name. Left alone are what belongs to one connection, and
what describes the stored bytes themselves and so can not have changed while they are the same: their coding, length,
digest, range and entity tag. Via stays that of the message that brought the content.
"""

from __future__ import annotations

import enum

from flyby.policy.conditional import strong_match, weak_match
from flyby.wire import Fields, strip_hop_by_hop

# Heroku's router adds these to each response, about that one response; never stored, never taken from a 304.
REPORTING = frozenset((b"nel", b"report-to", b"reporting-endpoints"))

_KEPT = REPORTING | {
    b"content-encoding",
    b"content-length",
    b"content-md5",
    b"content-digest",
    b"repr-digest",
    b"content-range",
    b"etag",
    b"transfer-encoding",
    b"via",
    b"cache-status",
}


def validates(stored: Fields, new: Fields) -> bool:
    """Whether a 304 with these fields speaks of this stored response (RFC 9111 4.3.4).

    One with another validator must not be used to update it: the whole is then to be fetched. Entity tags are compared
    weakly where one of the two is weak: nginx weakens the tag of what it compresses, and sends the strong one with 304.
    """
    etag, known = new.get(b"etag"), stored.get(b"etag")
    if etag is not None and known is not None:
        weak = etag.startswith(b"W/") or known.startswith(b"W/")
        return weak_match(etag, known) if weak else strong_match(etag, known)
    modified, since = new.get(b"last-modified"), stored.get(b"last-modified")
    if modified is not None and since is not None:
        return modified == since
    return etag is None  # a validator of which nothing is stored


def freshen(stored: Fields, new: Fields, *, set_cookie: bool = False) -> Fields:
    """The stored fields, updated from a 304 or a HEAD's 200 (RFC 9111 3.2). The Age is the new one, or none.

    `set_cookie` says whether Set-Cookie is taken (`CacheRules.keeps_set_cookie`): it is for the client whose request
    was the validation, and for others only where a route says so.
    """
    new = strip_hop_by_hop(new)
    replaced = {name.lower() for name, _ in new} - _KEPT
    if not set_cookie:
        replaced.discard(b"set-cookie")
    fields = stored.without(replaced | {b"age"})
    for name, value in new:
        if name.lower() in replaced:
            fields.add(name, value)
    return fields


class HeadEffect(enum.Enum):
    """What a response to HEAD says of the stored response to GET."""

    NONE = enum.auto()
    UPDATE = enum.auto()
    INVALIDATE = enum.auto()


def head_effect(stored: Fields, stored_length: int, stored_status: int, status: int, new: Fields) -> HeadEffect:
    """RFC 9111 4.3.5: a 200 whose validators and length are those stored updates it; one that differs makes it
    stale.
    """
    if status != 200 or stored_status != 200:
        return HeadEffect.NONE
    etag = new.get(b"etag")
    known = stored.get(b"etag")
    if etag is not None and (known is None or not weak_match(etag, known)):
        return HeadEffect.INVALIDATE
    modified = new.get(b"last-modified")
    if modified is not None and modified != stored.get(b"last-modified"):
        return HeadEffect.INVALIDATE
    length = new.get(b"content-length")
    if length is not None and length != b"%d" % stored_length:
        return HeadEffect.INVALIDATE
    return HeadEffect.UPDATE
