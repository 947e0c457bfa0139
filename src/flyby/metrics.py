"""What has been counted since the process started: plain integers, one set a worker, added up by whoever shows them.

Keys are the words of the one `Outcome`/`Reason` table in policy (this floor stands left of it, so they arrive as
strings), so that header, log and metric never disagree. Counting is a few dictionary additions: no lock, no clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def _nothing() -> Mapping[str, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """The counts of one instant; nothing in it changes."""

    requests: int = 0  # that got as far as a head that could be read
    refused: int = 0  # that did not
    outcomes: Mapping[str, int] = field(default_factory=_nothing)
    reasons: Mapping[str, int] = field(default_factory=_nothing)
    refusals: Mapping[str, int] = field(default_factory=_nothing)


class Count:
    """How often one outcome came about for one reason; whoever holds it adds to `number`."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class Metrics:
    """The counters of one process."""

    __slots__ = ("_counts", "_outcomes", "_reasons", "_refusals", "_sources")

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Count] = {}
        self._sources: list[Callable[[], Mapping[str, int]]] = []
        self._outcomes: defaultdict[str, int] = defaultdict(int)
        self._reasons: defaultdict[str, int] = defaultdict(int)
        self._refusals: defaultdict[str, int] = defaultdict(int)

    def count(self, outcome: str, reason: str | None) -> None:
        """One request has had its answer; `reason` where there is one."""
        self._outcomes[outcome] += 1
        if reason:
            self._reasons[reason] += 1

    def counter(self, outcome: str, reason: str) -> Count:
        """The same for who counts often: what is counted there is counted here."""
        return self._counts.setdefault((outcome, reason), Count())

    def refuse(self, reason: str) -> None:
        """One client sent something that is no request as we accept it."""
        self._refusals[reason] += 1

    def include(self, source: Callable[[], Mapping[str, int]]) -> None:
        """Ask `source` for outcomes that are counted elsewhere, whenever a snapshot is made."""
        self._sources.append(source)

    def snapshot(self) -> MetricsSnapshot:
        outcomes = Counter(self._outcomes)
        reasons = Counter(self._reasons)
        for source in self._sources:
            outcomes.update(source())
        for (outcome, reason), count in self._counts.items():
            outcomes[outcome] += count.number
            reasons[reason] += count.number
        return _snapshot(+outcomes, +reasons, self._refusals)


def total(snapshots: Iterable[MetricsSnapshot]) -> MetricsSnapshot:
    """The counts of several workers as one."""
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    for each in snapshots:
        outcomes.update(each.outcomes)
        reasons.update(each.reasons)
        refusals.update(each.refusals)
    return _snapshot(outcomes, reasons, refusals)


def _snapshot(outcomes: Mapping[str, int], reasons: Mapping[str, int], refusals: Mapping[str, int]) -> MetricsSnapshot:
    return MetricsSnapshot(
        requests=sum(outcomes.values()),
        refused=sum(refusals.values()),
        outcomes=MappingProxyType(dict(outcomes)),
        reasons=MappingProxyType(dict(reasons)),
        refusals=MappingProxyType(dict(refusals)),
    )
