"""Answer from a stored response: whole, not modified, in part, or not at all (RFC 9110 13, 14; RFC 9111 4).

The stored head is sent as it was stored; only Age, Cache-Status and the framing are made anew. Its fields are parsed
only where the request asks for more than the whole: conditions or ranges.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from flyby.policy import (
    UNSATISFIABLE,
    EntryFlag,
    Outcome,
    Reason,
    Times,
    cache_status,
    evaluate,
    guessed,
    if_range_matches,
    multipart,
    parse_range,
    stale_on_error_allowed,
)
from flyby.proxy.road._outbox import PIECE, Pieces
from flyby.proxy.stored._reply import IN_304
from flyby.wire import REASONS, Fields, RequestHead, serialise_response

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange
    from flyby.store import Entry, Fill

CONDITIONS = (b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"range")


def stored_fields(head: bytes) -> Fields:
    """The fields of a stored head."""
    lines = head.split(b"\r\n")[1:]
    return Fields([(name, value) for name, _, value in (line.partition(b": ") for line in lines) if name])


def age_fields(age_s: int, status: bytes) -> bytes:
    """The field lines that every hit adds to the stored head."""
    return b"Age: %d\r\nCache-Status: %s\r\n" % (age_s, status)


def is_conditional(request: RequestHead) -> bool:
    fields = request.fields
    return any(name in fields for name in CONDITIONS)


def serve(
    exchange: Exchange, entry: Entry, outcome: Outcome, reason: Reason | None = None, fwd_status: int | None = None
) -> None:
    """Send `entry` as the response of `exchange`; `fwd_status` is what the origin said when it was asked."""
    now_ms = exchange.context.clock.wall_ms()
    age_s = max(0, (now_ms - entry.born_ms) // 1000)
    ttl_s = (entry.fresh_ms - now_ms) // 1000
    exchange.note(outcome, reason, entry.status)
    status = cache_status(outcome, reason, ttl_s=ttl_s, fwd_status=fwd_status, detail=detail_of(entry, outcome, reason))
    extra = age_fields(age_s, status) + exchange.own_lines
    downstream = exchange.downstream
    if not is_conditional(exchange.request):
        downstream.send_stored(entry.head + extra, entry.length, (content(entry, 0, entry.length),), entry.status)
        return
    fields = stored_fields(entry.head)
    verdict = evaluate(exchange.request, fields, entry.status)
    if verdict == 304:
        exchange.status = 304
        downstream.send_stored(head_304(fields) + extra, -1, (), 304)
    elif verdict == 412:
        exchange.status = 412
        downstream.send_stored(status_line(412) + extra, 0, (), 412)
    elif entry.status == 200 and exchange.request.method == b"GET" and b"range" in exchange.request.fields:
        _serve_range(exchange, entry, fields, extra)
    else:
        downstream.send_stored(entry.head + extra, entry.length, (content(entry, 0, entry.length),), entry.status)


def detail_of(entry: Entry, outcome: Outcome, reason: Reason | None) -> str | None:
    """What Cache-Status adds of a stored response: that its freshness was guessed; None to say what it says anyway."""
    if outcome is not Outcome.HIT or reason is not None or not entry.flags & EntryFlag.HEURISTIC:
        return None
    times = Times(entry.born_ms, entry.fresh_ms, entry.swr_s, entry.sie_s)
    return Reason.GUESSED.value if guessed(times, entry.flags) else None


def content(entry: Entry, first: int, length: int) -> memoryview | Pieces:
    """Stored content to be sent: as it lies in the store, or unpacked a piece at a time while it is sent."""
    if entry.compressed and length > PIECE:
        return Pieces(entry, first, first + length)
    return entry.body(first, length)


def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %s\r\n" % (status, REASONS.get(status, b""))


def head_304(fields: Fields) -> bytes:
    kept = Fields([(name, value) for name, value in fields if name.lower() in IN_304])
    return serialise_response(304, REASONS[304], kept)[:-2]


def _serve_range(exchange: Exchange, entry: Entry, fields: Fields, extra: bytes) -> None:
    """RFC 9110 14.2: one part as it is, several as multipart/byteranges, none that fits as 416."""
    downstream = exchange.downstream
    request = exchange.request
    matches = if_range_matches(request.fields.get(b"if-range"), fields)
    ranges = parse_range(request.fields.combined(b"range"), entry.length) if matches else None
    if ranges is None:
        downstream.send_stored(entry.head + extra, entry.length, (content(entry, 0, entry.length),), 200)
    elif ranges is UNSATISFIABLE:
        exchange.status = 416
        head = status_line(416) + b"Content-Range: bytes */%d\r\n" % entry.length
        downstream.send_stored(head + extra, 0, (), 416)
    elif len(ranges) == 1:
        exchange.status = 206
        first, last = ranges[0]
        fields.set(b"Content-Range", b"bytes %d-%d/%d" % (first, last, entry.length))
        head = serialise_response(206, REASONS[206], fields)[:-2]
        length = last - first + 1
        downstream.send_stored(head + extra, length, (content(entry, first, length),), 206)
    else:
        exchange.status = 206
        boundary = secrets.token_hex(16).encode()
        heads, closing = multipart(ranges, entry.length, fields.get(b"content-type"), boundary)
        fields.set(b"Content-Type", b"multipart/byteranges; boundary=" + boundary)
        views: list[memoryview | bytes | Pieces] = []
        for part_head, (first, last) in zip(heads, ranges, strict=True):
            views += [part_head, content(entry, first, last - first + 1)]
        views.append(closing)
        head = serialise_response(206, REASONS[206], fields)[:-2]
        downstream.send_stored(head + extra, sum(map(len, views)), views, 206)


def usable(entry: Entry | None) -> bool:
    """Whether `entry` is a response, not a mark of the store's own book-keeping."""
    return entry is not None and not entry.flags & (EntryFlag.HIT_FOR_MISS | EntryFlag.VARY_MARKER)


def collapsed_head(fill: Fill, now_ms: int) -> bytes:
    """The stored head as followers of the fetch get it; its framing is still to come."""
    age_s = max(0, now_ms - fill.born_ms) // 1000
    return fill.head + age_fields(age_s, cache_status(Outcome.MISS, Reason.COLLAPSED, collapsed=True))


def send_verdict(exchange: Exchange, verdict: int, fields: Fields, status: bytes) -> None:
    """Answer a condition that a response still arriving has settled: 304, or 412."""
    extra = age_fields(0, status)
    exchange.status = verdict
    head = head_304(fields) if verdict == 304 else status_line(412)
    exchange.downstream.send_stored(head + extra, -1 if verdict == 304 else 0, (), verdict)


def stale_allowed(exchange: Exchange, stale: Entry, status: int) -> bool:
    """Whether `stale` may be sent in place of a failure with `status` (RFC 5861 4, RFC 9111 4.2.4)."""
    if stale.status >= 500:
        # A stored failure hides nothing: the origin's own words are as good.
        return False
    times = Times(stale.born_ms, stale.fresh_ms, stale.swr_s, stale.sie_s)
    now_ms = exchange.context.clock.wall_ms()
    return stale_on_error_allowed(exchange.request, times, stale.flags, now_ms, exchange.rules, status)
