"""What the demo app answers: a table of paths, and the few integers that are its state.

Each path shows one thing that a cache does. The number of the request is on every page, and the time it was made, so
a copy is known for a copy.

    /                      max-age=10, stale-while-revalidate=30, stale-if-error=600   miss, hit, stale
    /news                  max-age=2, stale-if-error=600; fails between POST /demo/break and POST /demo/mend
    /slow                  streams for 3 s, max-age=10                                 collapsed
    /account               private, with a cookie                                      never stored
    /assets/style.7d1f.css a year, immutable, ETag                                     hit
    /assets/logo.svg       no-cache, ETag                                              revalidated
    /demo/counter          how many requests reached the app, itself and its kin left out; no-store
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from flyby.demo import pages

SLOW_SECONDS = 3.0
_ETAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')

HTML = (b"Content-Type", b"text/html; charset=utf-8")
TEXT = (b"Content-Type", b"text/plain; charset=utf-8")
NO_STORE = (b"Cache-Control", b"no-store")


@dataclass(frozen=True, slots=True)
class Request:
    """What a page may ask of a request; `fields` by lower-case name."""

    method: bytes
    path: bytes
    fields: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its body at once, or in `pieces` with a pause before each but the first."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    pieces: tuple[bytes, ...] = ()
    pause_s: float = 0.0


class App:
    """The app of one process."""

    __slots__ = ("_now", "_pages", "broken", "reached")

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.reached = 0  # requests, but for those to /demo/
        self.broken = False
        self._pages: dict[bytes, Callable[[Request], Answer]] = {
            b"/": self._index,
            b"/news": self._news,
            b"/slow": self._slow,
            b"/account": self._account,
            b"/assets/style.7d1f.css": self._style,
            b"/assets/logo.svg": self._logo,
            b"/demo/counter": self._counter,
            b"/demo/break": self._break,
            b"/demo/mend": self._mend,
        }

    def answer(self, request: Request) -> Answer:
        """The response to one request."""
        if not request.path.startswith(b"/demo/"):
            self.reached += 1
        page = self._pages.get(request.path)
        if page is None:
            return Answer(404, (HTML, NO_STORE), self._page("Not found", pages.NOT_FOUND))
        switches = request.path in (b"/demo/break", b"/demo/mend")
        allowed = (b"POST",) if switches else (b"GET", b"HEAD")
        if request.method not in allowed:
            return Answer(405, (TEXT, NO_STORE, (b"Allow", b", ".join(allowed))), b"Method not allowed here.\n")
        return page(request)

    def _page(self, title: str, content: str) -> bytes:
        made = time.strftime("%H:%M:%S", time.gmtime(self._now()))
        return pages.page(title, content, self.reached, made).encode()

    def _index(self, request: Request) -> Answer:
        cache = b"public, max-age=10, stale-while-revalidate=30, stale-if-error=600"
        return Answer(200, (HTML, (b"Cache-Control", cache)), self._page("It flies", pages.INDEX))

    def _news(self, request: Request) -> Answer:
        if self.broken:
            return Answer(503, (HTML, NO_STORE), self._page("Out of order", pages.BROKEN))
        cache = b"public, max-age=2, stale-if-error=600"
        return Answer(200, (HTML, (b"Cache-Control", cache)), self._page("News", pages.NEWS))

    def _slow(self, request: Request) -> Answer:
        pieces = pages.slow(self.reached)
        pause_s = SLOW_SECONDS / (len(pieces) - 1)
        fields = (TEXT, (b"Cache-Control", b"public, max-age=10"))
        return Answer(200, fields, pieces=tuple(piece.encode() for piece in pieces), pause_s=pause_s)

    def _account(self, request: Request) -> Answer:
        fields = (HTML, (b"Cache-Control", b"private, max-age=60"), (b"Set-Cookie", b"visit=%d; Path=/" % self.reached))
        return Answer(200, fields, self._page("Your account", pages.ACCOUNT))

    def _style(self, request: Request) -> Answer:
        cache = b"public, max-age=31536000, immutable"
        return _asset(request, b"text/css; charset=utf-8", cache, pages.STYLE.encode())

    def _logo(self, request: Request) -> Answer:
        return _asset(request, b"image/svg+xml", b"no-cache", pages.LOGO.encode())

    def _counter(self, request: Request) -> Answer:
        return Answer(200, (TEXT, NO_STORE), b"%d\n" % self.reached)

    def _break(self, request: Request) -> Answer:
        self.broken = True
        return Answer(200, (TEXT, NO_STORE), b"/news fails from now on, until POST /demo/mend\n")

    def _mend(self, request: Request) -> Answer:
        self.broken = False
        return Answer(200, (TEXT, NO_STORE), b"/news works again\n")


def _asset(request: Request, content_type: bytes, cache: bytes, body: bytes) -> Answer:
    """An asset with a strong ETag; a 304 to who has it already (RFC 9110 13.1.2, weak comparison)."""
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:16].encode()
    fields = ((b"Cache-Control", cache), (b"ETag", etag))
    wanted = request.fields.get(b"if-none-match", b"")
    if wanted == b"*" or etag in _ETAG.findall(wanted):
        return Answer(304, fields)
    return Answer(200, ((b"Content-Type", content_type), *fields), body)
