"""What has been counted since the process started: plain integers, one set a worker, added up by whoever shows them.

Keys are the words of the one `Outcome`/`Reason` table in policy (this floor stands left of it, so they arrive as
strings), so that header, log and metric never disagree. Counting is a few dictionary additions: no lock, no clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """The counts of one instant; nothing in it changes."""

    requests: int = 0
    bytes_sent: int = 0
    outcomes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    reasons: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    statuses: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    connections_accepted: int = 0
    connections_open: int = 0


class Metrics:
    """The counters of one process."""

    __slots__ = ("_bytes_sent", "_outcomes", "_reasons", "_requests", "_statuses", "accepted", "closed")

    def __init__(self) -> None:
        self._requests = 0
        self._bytes_sent = 0
        self._outcomes: defaultdict[str, int] = defaultdict(int)
        self._reasons: defaultdict[str, int] = defaultdict(int)
        self._statuses: defaultdict[int, int] = defaultdict(int)
        self.accepted = 0
        self.closed = 0

    def count(self, outcome: str, reason: str, status: int, bytes_sent: int) -> None:
        """One request has had its answer. An empty `reason` is not counted."""
        self._requests += 1
        self._bytes_sent += bytes_sent
        self._outcomes[outcome] += 1
        if reason:
            self._reasons[reason] += 1
        self._statuses[status] += 1

    def connection_opened(self) -> None:
        self.accepted += 1

    def connection_closed(self) -> None:
        self.closed += 1

    def snapshot(self) -> MetricsSnapshot:
        return MetricsSnapshot(
            requests=self._requests,
            bytes_sent=self._bytes_sent,
            outcomes=MappingProxyType(dict(self._outcomes)),
            reasons=MappingProxyType(dict(self._reasons)),
            statuses=MappingProxyType(dict(self._statuses)),
            connections_accepted=self.accepted,
            connections_open=self.accepted - self.closed,
        )


def total(snapshots: Iterable[MetricsSnapshot]) -> MetricsSnapshot:
    """The counts of several workers as one."""
    requests = bytes_sent = accepted = still_open = 0
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    for each in snapshots:
        requests += each.requests
        bytes_sent += each.bytes_sent
        accepted += each.connections_accepted
        still_open += each.connections_open
        outcomes.update(each.outcomes)
        reasons.update(each.reasons)
        statuses.update(each.statuses)
    return MetricsSnapshot(
        requests=requests,
        bytes_sent=bytes_sent,
        outcomes=MappingProxyType(dict(outcomes)),
        reasons=MappingProxyType(dict(reasons)),
        statuses=MappingProxyType(dict(statuses)),
        connections_accepted=accepted,
        connections_open=still_open,
    )
