"""A route that leads to several backends, each with a share of the visitors: which one a visitor gets, and stays with.

The one that was drawn stands in a cookie of the edge's, under a name that the set of backends gives, so that routes
with other backends draw for themselves. Neither the cache nor an origin sees it: each backend's responses are stored
apart anyway. It lasts as long as the browser's session, and holds a digest, no name. A backend that is taken out of the
route has its visitors drawn anew; a share of 0 keeps those it has and takes no new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b

from flyby.wire import Fields


class Shares:
    """The backends of one route and their shares."""

    __slots__ = ("_names", "_weights", "cookie")

    def __init__(self, shares: Mapping[str, int]) -> None:
        self._names = {_digest(name): name for name in shares}
        self._weights = [(name, weight) for name, weight in shares.items() if weight]
        self.cookie = b"flyby-share-" + _digest("\0".join(sorted(shares)))

    def of_visitor(self, fields: Fields) -> str | None:
        """The backend that the request's cookie names; None for a new visitor."""
        for line in fields.get_all(b"cookie"):
            for pair in line.split(b";"):
                name, _, value = pair.strip(b" \t").partition(b"=")
                if name == self.cookie and value in self._names:
                    return self._names[value]
        return None

    def drawn(self, point: float) -> str:
        """The backend of a new visitor; `point` is drawn evenly from 0 to 1, without 1."""
        left = point * sum(weight for _, weight in self._weights)
        for name, weight in self._weights:
            left -= weight
            if left < 0:
                return name
        return self._weights[-1][0]

    def cookie_line(self, backend: str, secure: bool) -> bytes:
        """The field line that keeps a visitor with `backend`."""
        end = b"; Secure\r\n" if secure else b"\r\n"
        return b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax%b" % (self.cookie, _digest(backend), end)

    def left_out(self, fields: Fields) -> None:
        """Take the cookie out of a request's fields."""
        if b"cookie" not in fields:
            return
        pairs = [pair.strip(b" \t") for line in fields.get_all(b"cookie") for pair in line.split(b";")]
        kept = [pair for pair in pairs if pair.partition(b"=")[0] != self.cookie]
        if len(kept) == len(pairs):
            return
        if kept:
            fields.set(b"Cookie", b"; ".join(kept))
        else:
            fields.remove(b"cookie")


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=6).hexdigest().encode()


@lru_cache(maxsize=256)
def shares_of(shares: tuple[tuple[str, int], ...]) -> Shares:
    """The Shares of a route."""
    return Shares(dict(shares))
