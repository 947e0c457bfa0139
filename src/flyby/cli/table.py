"""The table of `flyby stat`: counts in, lines out. Pure: the same counts always give the same lines.

Beside every count that only grows stands, from the second look on, how fast it grows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flyby.store import StoreStatistics
    from flyby.store.cache_file import Record

# (what is counted, the name of the count, of bytes or of things)
COUNTS = (
    ("hits", "hits", False),
    ("  bytes of them", "hit_bytes", True),
    ("misses", "misses", False),
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
    ("  failed", "failed", False),
    ("remade: shards", "rebuilds", False),
    ("        fetches", "recoveries", False),
    ("lost:   shards", "resets", False),
    ("        objects", "recovered", False),
    ("locks not had", "busy", False),
    ("pins not had", "pin_overflows", False),
)
WORKER_COUNTS = ("hits", "misses", "inserts", "fills", "collapsed", "committed", "failed", "busy")


def table(
    name: str, record: Record, now: StoreStatistics, before: StoreStatistics | None = None, seconds: float = 0.0
) -> list[str]:
    """The lines. `before` is the look `seconds` ago."""
    states = now.fill_states
    used = f"{_bytes(now.used)} ({now.used / now.capacity:.0%})"
    bodies = f"bodies of {_bytes(now.plain_bytes)} held in {_bytes(now.stored_bytes)}, {now.compressed:,} as lz4"
    fetches = ", ".join(f"{getattr(states, state):,} {state}" for state in states.__slots__)
    lines = [
        f"cache in {name}, {_life(record)}",
        f"memory    {_bytes(now.size)}: objects {used}, index {_bytes(now.index_bytes)}, free {_bytes(now.free)}",
        f"objects   {now.objects:,}, {bodies}; {now.loose:,} on their way in or out",
        f"          by size: {_by_size(now.by_size)}",
        f"fetches   {now.fills_open:,}: {fetches}",
        f"hit ratio {now.hit_ratio:.2%}{_recent_ratio(now, before)}",
        "",
        f"{'':22}{'total':>16}" + (f"{'a second':>14}" if before is not None else ""),
    ]
    for label, field, of_bytes in COUNTS:
        total = getattr(now, field)
        line = f"{label:22}{_shown(total, of_bytes):>16}"
        if before is not None and seconds > 0:
            line += f"{_shown((total - getattr(before, field)) / seconds, of_bytes):>14}"
        lines.append(line)
    lines += ["", "worker " + "".join(f"{each:>12}" for each in WORKER_COUNTS)]
    for number, worker in enumerate(now.workers):
        label = str(number) if number < len(now.workers) - 1 else "maker"
        lines.append(f"{label:7}" + "".join(f"{getattr(worker, each):>12,}" for each in WORKER_COUNTS))
    return lines


def _by_size(counts: tuple[int, ...]) -> str:
    from flyby.store.statistics import SIZE_LIMITS

    labels = [f"under {_bytes(limit)}" for limit in SIZE_LIMITS] + ["larger"]
    return ", ".join(f"{count:,} {label}" for label, count in zip(labels, counts, strict=True) if count) or "none"


def _life(record: Record) -> str:
    opened = _time(record.opened_ms)
    if record.closed_ms:
        return f"closed since {_time(record.closed_ms)}"
    return f"of process {record.process} since {opened}"


def _time(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))


def _recent_ratio(now: StoreStatistics, before: StoreStatistics | None) -> str:
    if before is None:
        return ""
    hits, misses = now.hits - before.hits, now.misses - before.misses
    return f", just now {hits / (hits + misses):.2%}" if hits + misses > 0 else ""


def _shown(value: float, of_bytes: bool) -> str:
    return _bytes(value) if of_bytes else f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
