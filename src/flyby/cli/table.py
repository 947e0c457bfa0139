"""The table of `flyby stat`: counts in, lines out. Pure: the same counts always give the same lines.

What is zero has no line. Beside every count that only grows stands, from the second look on, how fast it grows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from flyby.cli.figures import figures
from flyby.metrics import Latency, MetricsSnapshot, total

if TYPE_CHECKING:
    from flyby.store import StoreStatistics
    from flyby.store.cache_file import Record


class Look(NamedTuple):
    """What was counted at one instant; `workers` is empty where nobody counts requests."""

    workers: list[MetricsSnapshot]
    store: StoreStatistics


class Row(NamedTuple):
    """A count that only grows, of things or of bytes."""

    label: str
    value: int
    of_bytes: bool = False


# (what is counted, the name of the count, of bytes or of things)
STORED = (
    ("stored", "inserts", False),
    ("  bytes of them", "insert_bytes", True),
    ("not stored: no room", "refused", False),
    ("evicted: small queue", "evicted_small", False),
    ("         main queue", "evicted_main", False),
    ("         for room", "evicted_room", False),
    ("         expired", "evicted_expired", False),
    ("came back after that", "ghost_hits", False),
    ("purged", "purged", False),
    ("replaced", "replaced", False),
    ("made plain: hot", "promotions", False),
    ("packed again", "demotions", False),
    ("fetches begun", "fills", False),
    ("  joined", "collapsed", False),
    ("  stored", "committed", False),
    ("remade: shards", "rebuilds", False),
    ("        fetches", "recoveries", False),
    ("lost:   shards", "resets", False),
    ("        objects", "recovered", False),
    ("locks not had", "busy", False),
    ("pins not had", "pin_overflows", False),
)


def table(name: str, record: Record, now: Look, before: Look | None = None, seconds: float = 0.0) -> list[str]:
    """The lines. `before` is the look `seconds` ago."""
    counted, store = total(now.workers), now.store
    bodies = f"bodies of {_bytes(store.plain_bytes)} held in {_bytes(store.stored_bytes)}"
    objects = f"objects {_bytes(store.used)} ({store.used / store.capacity:.0%})"
    lines = [
        f"cache in {name}, {_life(record)}",
        f"memory    {_bytes(store.size)}: {objects}, index {_bytes(store.index_bytes)}, free {_bytes(store.free)}",
        f"objects   {store.objects:,}, {bodies}, {store.compressed:,} as lz4",
    ]
    if store.fills_open or store.loose:
        lines.append(f"fetches   {_fetches(store)}; {store.loose:,} objects on their way in or out")
    if now.workers:
        was = total(before.workers) if before is not None else None
        lines += [_ratios(counted, was), *_latencies(counted, was)]
    lines += ["", f"{'':22}{'total':>16}" + (f"{'a second':>14}" if before is not None else "")]
    earlier = dict(_rows_before(before))
    for row in _rows(now):
        if row.value:
            rate = (row.value - earlier.get(row.label, 0)) / seconds if before is not None and seconds > 0 else None
            shown = f"{_shown(rate, row.of_bytes):>14}" if rate is not None else ""
            lines.append(f"{row.label:22}{_shown(row.value, row.of_bytes):>16}{shown}")
    if len(now.workers) > 1:
        lines += ["", *_by_worker(now.workers)]
    return lines


def _rows(look: Look) -> Iterator[Row]:
    """Every count, in the order of the table; labels are unique but for what stands below another."""
    counted = total(look.workers)
    sums = figures(counted)
    yield Row("requests", sums.requests)
    for outcome, count in counted.outcomes.items():
        yield Row(f"  {outcome}", count)
    yield Row("failed", sums.failed)
    yield Row("not understood", counted.refused)
    yield Row("bytes sent", sums.bytes_sent, True)
    yield Row("  from the store", sums.hit_bytes, True)
    yield Row("connections", counted.connections_total)
    for label, field, of_bytes in STORED:
        yield Row(label, getattr(look.store, field), of_bytes)


def _rows_before(look: Look | None) -> Iterator[tuple[str, int]]:
    if look is not None:
        for row in _rows(look):
            yield row.label, row.value


def _ratios(now: MetricsSnapshot, before: MetricsSnapshot | None) -> str:
    sums = figures(now)
    line = f"hit ratio {sums.hit_ratio:.2%} of requests, {sums.hit_ratio_bytes:.2%} of bytes"
    if before is None:
        return line
    recent = sums.since(figures(before))
    if not recent.hits + recent.misses + recent.passes:
        return line
    return f"{line}, just now {recent.hit_ratio:.2%}, {recent.hit_ratio_bytes:.2%}"


def _latencies(now: MetricsSnapshot, before: MetricsSnapshot | None) -> list[str]:
    """Half and 99% of the responses were through within these times; just now, where there were any."""
    shown = []
    for label in ("hits", "others", "origins"):
        latency: Latency = getattr(now, label)
        if before is not None and (recent := latency - getattr(before, label)).count:
            latency = recent
        half, most = latency.within_us(0.5), latency.within_us(0.99)
        if half is not None and most is not None:
            shown.append(f"{label} {_time_us(half)}/{_time_us(most)}")
    return [f"latency   {', '.join(shown)} (50%/99%)"] if shown else []


def _by_worker(workers: list[MetricsSnapshot]) -> list[str]:
    lines = [f"{'worker':7}{'requests':>14}{'hits':>14}{'failed':>10}{'bytes sent':>14}{'connections':>13}"]
    for number, worker in enumerate(workers):
        sums = figures(worker)
        lines.append(
            f"{number:<7}{sums.requests:>14,}{sums.hits:>14,}{sums.failed:>10,}{_bytes(sums.bytes_sent):>14}"
            f"{worker.connections_open:>13,}"
        )
    return lines


def _fetches(store: StoreStatistics) -> str:
    states = store.fill_states
    by_state = [f"{count:,} {state}" for state in states.__slots__ if (count := getattr(states, state))]
    return f"{store.fills_open:,} under way" + (f" ({', '.join(by_state)})" if by_state else "")


def _life(record: Record) -> str:
    if record.closed_ms:
        return f"closed since {_time(record.closed_ms)}"
    return f"of process {record.process} since {_time(record.opened_ms)}"


def _time(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))


def _time_us(us: int) -> str:
    if us < 1000:
        return f"{us}µs"
    return f"{us / 1000:.3g}ms" if us < 1_000_000 else f"{us / 1_000_000:.1f}s"


def _shown(value: float, of_bytes: bool) -> str:
    return _bytes(value) if of_bytes else f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
