"""What is asked of every server, and what the answer must be: the rows of the table.

A case names one request that wrk repeats. `reaches_origin` is the claim that the run checks against the origin's own
counter, so that a "hit" that was really fetched, or a "miss" that was really cached, is never printed as a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

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
    secure: bool = False  # asked over TLS, on kept connections: the handshake is no part of it


def _hit(name: str, size: int) -> Case:
    return Case(name, f"/hit/{size}", size, reaches_origin=False)


def _miss(name: str, size: int, *, quick: bool = True) -> Case:
    return Case(name, f"/miss/{size}", size, reaches_origin=True, quick=quick)


CASES = (
    _hit("hit-1k", KIB),
    _hit("hit-16k", 16 * KIB),
    _hit("hit-128k", 128 * KIB),
    Case("hit-1k-browser", f"/hit/{KIB}", KIB, reaches_origin=False, headers=BROWSER, quick=False),
    Case("hit-304", f"/hit/{KIB}", 0, False, headers=(("If-None-Match", ENTITY_TAG),), status=304, quick=False),
    _miss("miss-1k", KIB),
    _miss("miss-16k", 16 * KIB),
    _miss("miss-128k", 128 * KIB),
    _miss("miss-1m", MIB, quick=False),
    Case("tls-hit-1k", f"/hit/{KIB}", KIB, reaches_origin=False, quick=False, secure=True),
    Case("tls-hit-16k", f"/hit/{16 * KIB}", 16 * KIB, reaches_origin=False, quick=False, secure=True),
    Case("tls-hit-128k", f"/hit/{128 * KIB}", 128 * KIB, reaches_origin=False, quick=False, secure=True),
    Case("tls-miss-1k", f"/miss/{KIB}", KIB, reaches_origin=True, quick=False, secure=True),
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
