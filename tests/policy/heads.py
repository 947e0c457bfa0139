"""Plain heads for policy tests: a request, a response, and the moment at which they meet."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyby.policy import CacheRules, Plan, Reason, format_http_date, storable
from flyby.wire import Fields

NOW_S = 1_800_000_000
NOW_MS = NOW_S * 1000

DEFAULT = CacheRules.compile(profile="default")
LETTER = CacheRules.compile(profile="rfc9111")

Lines = list[tuple[bytes, bytes]]


@dataclass
class Request:
    """A request as policy sees it."""

    fields: Fields = field(default_factory=Fields)
    method: bytes = b"GET"
    scheme: bytes = b"https"
    host: bytes = b"shop.example"
    path: bytes = b"/a/b?c=d"


@dataclass
class Response:
    """A response as policy sees it."""

    status: int
    fields: Fields


def at(offset_s: int) -> bytes:
    """An HTTP-date so many seconds from now."""
    return format_http_date(NOW_S + offset_s)


def get(*lines: tuple[bytes, bytes], path: bytes = b"/a/b?c=d", method: bytes = b"GET") -> Request:
    return Request(Fields(lines), path=path, method=method)


def answer(*lines: tuple[bytes, bytes], status: int = 200, date: bool = True) -> Response:
    """A response with the Date of now."""
    return Response(status, Fields([(b"Date", at(0)), *lines] if date else lines))


def decide(response: Response, request: Request | None = None, rules: CacheRules = LETTER) -> Plan | Reason:
    return storable(request or get(), response, request_ms=NOW_MS, response_ms=NOW_MS, rules=rules)


def planned(response: Response, request: Request | None = None, rules: CacheRules = LETTER) -> Plan:
    """The plan of a response that must be storable."""
    plan = decide(response, request, rules)
    assert isinstance(plan, Plan), plan
    return plan


def lifetime_s(response: Response, request: Request | None = None, rules: CacheRules = LETTER) -> float:
    """How long from now a response that must be storable is fresh."""
    return (planned(response, request, rules).times.fresh_ms - NOW_MS) / 1000
