"""What is asked of every server, and what the answer must be: the rows of the table.

A case names one request, and the client that repeats it. `reaches_origin` is the claim that the run checks against the
origin's own counter, so that a "hit" that was really fetched, or a "miss" that was really cached, is never printed as a
figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

KIB = 1024
MIB = 1024 * KIB

# What a browser sends with a page's asset, and a cookie of a session: ten fields besides Host.
BROWSER = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.7,de;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "http://www.example.com/articles/2024/a-page-with-a-long-name"),
    ("DNT", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Cookie", "_session=0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark; _ga=GA1.1.123456789.1700000"),
)

ENTITY_TAG = '"1"'  # what floor.c sends unless it is told otherwise


CONTENT = b"field=" + b"x" * 194  # a form of 200 bytes
COOKIE = (("Cookie", "seen=1760000000; _session=0123456789abcdef0123456789abcdef"),)
CLOSE = (("Connection", "close"),)
RANGE = (("Range", "bytes=5000-5511"),)


class Client(Enum):
    """What makes the load."""

    WRK = "wrk"  # the same request again and again, on 64 connections
    FILL = "fill"  # load.c: every URL once, until twice the cache's size has been stored
    FULL = "full"  # handshakes.py: a full handshake, a request, and the end of the connection
    RESUMED = "resumed"  # the same with a ticket of an earlier connection


class Upstream(Enum):
    """How the origin is reached."""

    PLAIN = "plain"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class Case:
    """One request, repeated."""

    name: str
    path: str
    size: int
    reaches_origin: bool
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    quick: bool = True  # part of a --quick run
    secure: bool = False  # asked over TLS, on kept connections unless the client says otherwise
    content: bytes = b""  # of a POST; a GET without
    client: Client = Client.WRK
    upstream: Upstream = Upstream.PLAIN

    @property
    def method(self) -> str:
        """Of the request."""
        return "POST" if self.content else "GET"

    @property
    def churn(self) -> bool:
        """Whether each request has a connection of its own."""
        return self.client in (Client.FULL, Client.RESUMED) or CLOSE[0] in self.headers


def _hit(name: str, size: int) -> Case:
    return Case(name, f"/hit/{size}", size, reaches_origin=False)


def _miss(name: str, size: int, *, quick: bool = True) -> Case:
    return Case(name, f"/miss/{size}", size, reaches_origin=True, quick=quick)


def _store(name: str, size: int) -> Case:
    return Case(name, f"/hit/{size}", size, reaches_origin=True, quick=False, client=Client.FILL)


def _case(name: str, path: str, size: int, reaches_origin: bool, **more: Any) -> Case:
    return Case(name, path, size, reaches_origin, quick=False, **more)


CASES = (
    _hit("hit-1k", KIB),
    _hit("hit-16k", 16 * KIB),
    _hit("hit-128k", 128 * KIB),
    _case("hit-1k-browser", f"/hit/{KIB}", KIB, False, headers=BROWSER),
    _case("hit-304", f"/hit/{KIB}", 0, False, headers=(("If-None-Match", ENTITY_TAG),), status=304),
    _case("range", f"/noise/{16 * KIB}", 512, False, headers=RANGE, status=206),
    _case("range-text", f"/hit/{16 * KIB}", 512, False, headers=RANGE, status=206),
    _miss("miss-1k", KIB),
    _miss("miss-16k", 16 * KIB),
    _miss("miss-128k", 128 * KIB),
    _miss("miss-1m", MIB, quick=False),
    _case("validate", f"/validate/{KIB}", KIB, True),
    _case("post", f"/post/{KIB}", KIB, True, content=CONTENT),
    _case("post-early", f"/early/{KIB}", KIB, True, content=CONTENT),
    _case("chunked-1k", f"/chunked/{KIB}", KIB, True),
    _case("chunked-16k", f"/chunked/{16 * KIB}", 16 * KIB, True),
    _case("private", f"/private/{KIB}", KIB, True, headers=COOKIE),
    _case("tls-hit-1k", f"/hit/{KIB}", KIB, False, secure=True),
    _case("tls-hit-16k", f"/hit/{16 * KIB}", 16 * KIB, False, secure=True),
    _case("tls-hit-128k", f"/hit/{128 * KIB}", 128 * KIB, False, secure=True),
    _case("tls-miss-1k", f"/miss/{KIB}", KIB, True, secure=True),
    _case("tls-miss-16k", f"/miss/{16 * KIB}", 16 * KIB, True, secure=True),
    _case("tls-origin-1k", f"/miss/{KIB}", KIB, True, upstream=Upstream.TLS),
    _case("tls-origin-16k", f"/miss/{16 * KIB}", 16 * KIB, True, upstream=Upstream.TLS),
    _case("tls-origin-128k", f"/miss/{128 * KIB}", 128 * KIB, True, upstream=Upstream.TLS),
    _case("tls-origin-post", f"/post/{KIB}", KIB, True, content=CONTENT, upstream=Upstream.TLS),
    _case("churn", f"/hit/{KIB}", KIB, False, headers=CLOSE),
    _case("churn-tls", f"/hit/{KIB}", KIB, False, secure=True, client=Client.FULL),
    _case("churn-tls-resumed", f"/hit/{KIB}", KIB, False, secure=True, client=Client.RESUMED),
    # Last, for they drive out what the others have had stored.
    _store("store-1k", KIB),
    _store("store-16k", 16 * KIB),
)


def chosen(server: str, case: Case, only: Iterable[str]) -> bool:
    """Whether `--only` asks for this pair; a pattern is `server/case` or one name of either kind; `*` as in a shell."""
    patterns = list(only)
    if not patterns:
        return True
    for pattern in patterns:
        left, slash, right = pattern.partition("/")
        if slash:
            if fnmatchcase(server, left or "*") and fnmatchcase(case.name, right or "*"):
                return True
        elif fnmatchcase(server, pattern) or fnmatchcase(case.name, pattern):
            return True
    return False


def unmatched(servers: Sequence[str], cases: Sequence[Case], only: Iterable[str]) -> list[str]:
    """The patterns that ask for nothing there is: a slip of the pen, better said than run."""
    return [
        pattern for pattern in only if not any(chosen(server, case, [pattern]) for server in servers for case in cases)
    ]
