"""What has been counted, as values: of one page at one instant, or of several pages added up.

A request is counted once, by its outcome and the class of its status; `outcomes` and `requests` are sums of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

STEPS = 5  # buckets of an octave, see `_page.bucket_of`
BUCKETS = 151


def _nothing() -> Mapping[str, int]:
    return MappingProxyType({})


def lowest_us(bucket: int) -> int:
    """The shortest duration that belongs into a bucket or into a later one, in µs."""
    octave, step = divmod(bucket, STEPS)
    return (1 << octave) + -(-(step << octave) // STEPS)


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took: durations by bucket, each at most a fifth longer than the shortest in its bucket."""

    buckets: tuple[int, ...] = (0,) * BUCKETS
    sum_us: int = 0

    @property
    def count(self) -> int:
        """How many durations."""
        return sum(self.buckets)

    def within_us(self, share: float) -> int | None:
        """The time within which that share of all was done, rounded up to its bucket's end; None of nothing."""
        left = self.count * share
        if not left:
            return None
        for bucket, number in enumerate(self.buckets):
            left -= number
            if left <= 0:
                return lowest_us(bucket + 1) if bucket + 1 < BUCKETS else lowest_us(bucket)
        return lowest_us(BUCKETS - 1)

    def __add__(self, other: Latency) -> Latency:
        sums = tuple(one + another for one, another in zip(self.buckets, other.buckets, strict=True))
        return Latency(sums, self.sum_us + other.sum_us)

    def __sub__(self, other: Latency) -> Latency:
        rest = tuple(one - another for one, another in zip(self.buckets, other.buckets, strict=True))
        return Latency(rest, self.sum_us - other.sum_us)


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """The counts of one instant; nothing in it changes."""

    statuses: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Requests by outcome, and by the first digit of their status."""
    reasons: Mapping[str, int] = field(default_factory=_nothing)
    sent: Mapping[str, int] = field(default_factory=_nothing)
    """Bytes that clients were given, by outcome: heads and content."""
    routes: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    """Requests by route and outcome."""
    refusals: Mapping[str, int] = field(default_factory=_nothing)
    """Heads that could not be read."""
    hits: Latency = field(default_factory=Latency)
    """From a request's head to the last byte of its response, where that came from the store."""
    others: Latency = field(default_factory=Latency)
    """The same of all other responses."""
    origins: Latency = field(default_factory=Latency)
    """From a request's sending to the first byte of the origin's response."""
    connections_total: int = 0
    connections_open: int = 0

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Requests by outcome."""
        return {outcome: sum(counts) for outcome, counts in self.statuses.items()}

    @property
    def requests(self) -> int:
        """Requests whose head could be read."""
        return sum(sum(counts) for counts in self.statuses.values())

    @property
    def refused(self) -> int:
        """Requests whose head could not."""
        return sum(self.refusals.values())


def total(snapshots: Iterable[MetricsSnapshot]) -> MetricsSnapshot:
    """The counts of several workers as one."""
    every = list(snapshots)
    statuses: dict[str, tuple[int, ...]] = {}
    routes: dict[str, Counter[str]] = {}
    for each in every:
        for outcome, counts in each.statuses.items():
            before = statuses.get(outcome, (0,) * len(counts))
            statuses[outcome] = tuple(one + another for one, another in zip(before, counts, strict=True))
        for route, outcomes in each.routes.items():
            routes.setdefault(route, Counter()).update(outcomes)
    return MetricsSnapshot(
        statuses=MappingProxyType(statuses),
        reasons=_summed(every, lambda each: each.reasons),
        sent=_summed(every, lambda each: each.sent),
        routes=MappingProxyType({route: MappingProxyType(dict(counts)) for route, counts in routes.items()}),
        refusals=_summed(every, lambda each: each.refusals),
        hits=sum((each.hits for each in every), Latency()),
        others=sum((each.others for each in every), Latency()),
        origins=sum((each.origins for each in every), Latency()),
        connections_total=sum(each.connections_total for each in every),
        connections_open=sum(each.connections_open for each in every),
    )


def _summed(snapshots: list[MetricsSnapshot], of: Callable[[MetricsSnapshot], Mapping[str, int]]) -> Mapping[str, int]:
    sums: Counter[str] = Counter()
    for each in snapshots:
        sums.update(of(each))
    return MappingProxyType(dict(sums))
