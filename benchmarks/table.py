"""From samples to the table: medians, ratios, notes. Pure: the same samples always print the same text.

The median of the rounds stands for a server, and the spread beside it, (highest - lowest) / median, says how far to
trust it: two servers whose medians differ by less than their spreads do not differ. Ratios are of CPU per request, to
the floor and to the best of the other proxies in the same case of the same run, never to a figure from another day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

FLOORS = ("floor", "uvloop")  # yardsticks, and no peers; a case has one of them at most
OURS = "flyby"  # and what begins so

COLUMNS = (
    "case",
    "server",
    "CPU µs/request",
    "spread",
    "of the floor",
    "of the best peer",
    "requests/s",
    "p99 ms",
    "note",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One server under one case in one round; at least one request was answered."""

    server: str
    case: str
    round: int
    requests: int
    cpu_s: float
    rate: float
    p50_ms: float
    p99_ms: float
    notes: tuple[str, ...] = ()

    @property
    def cpu_us(self) -> float:
        """CPU time for one request, in microseconds, over the whole process tree."""
        return self.cpu_s / self.requests * 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one server under one case."""

    case: str
    server: str
    rounds: int
    cpu_us: float
    spread: float
    rate: float
    p99_ms: float
    of_floor: float | None
    of_best_peer: float | None
    notes: tuple[str, ...]


def origin_note(case_reaches_origin: bool, requests: int, fetched: int) -> str | None:
    """What is wrong when the origin saw `fetched` of `requests`; None when the case was what it says."""
    share = fetched / requests
    # A hit may be fetched once more (a refresh); wrk leaves up to one request a connection uncounted at the end.
    if case_reaches_origin and share < 0.99:
        return f"not a miss: the origin saw {share:.0%}"
    if not case_reaches_origin and share > 0.01:
        return f"not a hit: the origin saw {share:.0%}"
    return None


def rows(samples: Iterable[Sample], servers: Sequence[str], cases: Sequence[str]) -> list[Row]:
    """One row for each pair that was measured, by case, in the order given."""
    grouped: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        grouped.setdefault((sample.case, sample.server), []).append(sample)
    result = []
    for case in cases:
        cpu = {
            server: median(sample.cpu_us for sample in grouped[case, server])
            for server in servers
            if (case, server) in grouped
        }
        for server in cpu:
            result.append(_row(case, server, grouped[case, server], cpu))
    return result


def _row(case: str, server: str, samples: Sequence[Sample], cpu: dict[str, float]) -> Row:
    measured = [sample.cpu_us for sample in samples]
    floor = next((cpu[name] for name in FLOORS if name in cpu), None)
    peers = [value for name, value in cpu.items() if name not in (*FLOORS, server) and not name.startswith(OURS)]
    middle = cpu[server]
    return Row(
        case=case,
        server=server,
        rounds=len(samples),
        cpu_us=middle,
        spread=(max(measured) - min(measured)) / middle if middle else 0.0,
        rate=median(sample.rate for sample in samples),
        p99_ms=median(sample.p99_ms for sample in samples),
        of_floor=middle / floor if floor and server not in FLOORS else None,
        of_best_peer=middle / min(peers) if server not in FLOORS and peers and min(peers) else None,
        notes=tuple(dict.fromkeys(note for sample in samples for note in sample.notes)),
    )


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, by `COLUMNS`."""
    return (
        row.case,
        row.server,
        f"{row.cpu_us:.1f}",
        f"{row.spread:.0%}" if row.rounds > 1 else "",
        _ratio(row.of_floor),
        _ratio(row.of_best_peer),
        f"{row.rate:,.0f}",
        f"{row.p99_ms:.2f}",
        "; ".join(row.notes),
    )


def render(table: Sequence[Row]) -> str:
    """A Markdown table, aligned for a terminal as well; the note column only when there is something to note."""
    width = len(COLUMNS) if any(row.notes for row in table) else len(COLUMNS) - 1
    lines = [COLUMNS[:width], *(cells(row)[:width] for row in table)]
    widths = [max(len(line[column]) for line in lines) for column in range(width)]
    left = {0, 1, len(COLUMNS) - 1}

    def written(line: Sequence[str]) -> str:
        padded = [
            text.ljust(widths[column]) if column in left else text.rjust(widths[column])
            for column, text in enumerate(line)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = "|".join(
        "-" * (widths[column] + 2) if column in left else "-" * (widths[column] + 1) + ":" for column in range(width)
    )
    return "\n".join([written(lines[0]), f"|{rule}|", *(written(line) for line in lines[1:])])
