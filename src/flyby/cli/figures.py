"""What `flyby stat` says of requests: sums over the words in which they are counted. Pure.

    hits       answered from the store: `hit`, and `stale` as RFC 5861 and 9111 4.2.4 allow
    misses     the origin was asked for what the store may keep: `miss`, and `revalidated`
    passes     the origin was asked for what it never keeps: `pass`, and `pipe` (an upgraded connection)
    failed     an error page of status 5xx, or a response that the origin broke off

What flyby answers by itself (`local`, and `error`) is in no ratio: the cache had no part in it.
"""

from __future__ import annotations

from typing import NamedTuple

from flyby.metrics import Latency, MetricsSnapshot
from flyby.policy import Outcome, Reason

HITS = (Outcome.HIT, Outcome.STALE)
MISSES = (Outcome.MISS, Outcome.REVALIDATED)
PASSES = (Outcome.PASS, Outcome.PIPE)
SERVER_ERROR = 5  # the first digit of a status (RFC 9110 15.6)
SHARES = (0.5, 0.9, 0.99)


class Figures(NamedTuple):
    """The sums of one snapshot, or of what lies between two."""

    requests: int
    hits: int
    misses: int
    passes: int
    failed: int
    bytes_sent: int
    hit_bytes: int
    answered_bytes: int  # of hits, misses and passes

    @property
    def hit_ratio(self) -> float:
        """The share of hits in the requests that the store or an origin answered."""
        answered = self.hits + self.misses + self.passes
        return self.hits / answered if answered else 0.0

    @property
    def hit_ratio_bytes(self) -> float:
        """The same, of the bytes that their clients were given."""
        return self.hit_bytes / self.answered_bytes if self.answered_bytes else 0.0

    def since(self, before: Figures) -> Figures:
        """What has come since `before`."""
        return Figures(*(now - then for now, then in zip(self, before, strict=True)))


def figures(found: MetricsSnapshot) -> Figures:
    """The sums of a snapshot."""
    outcomes = found.outcomes

    def requests(words: tuple[Outcome, ...]) -> int:
        return sum(outcomes.get(word, 0) for word in words)

    def sent(words: tuple[Outcome, ...]) -> int:
        return sum(found.sent.get(word, 0) for word in words)

    errors = found.statuses.get(Outcome.ERROR)
    return Figures(
        requests=found.requests,
        hits=requests(HITS),
        misses=requests(MISSES),
        passes=requests(PASSES),
        failed=(errors[SERVER_ERROR] if errors else 0) + found.reasons.get(Reason.INCOMPLETE, 0),
        bytes_sent=sum(found.sent.values()),
        hit_bytes=sent(HITS),
        answered_bytes=sent(HITS + MISSES + PASSES),
    )


def requests_report(found: MetricsSnapshot) -> dict[str, object]:
    """All of a snapshot, for programs."""
    sums = figures(found)
    return {
        "requests": sums.requests,
        "hits": sums.hits,
        "misses": sums.misses,
        "passes": sums.passes,
        "failed": sums.failed,
        "hit_ratio": sums.hit_ratio,
        "hit_ratio_bytes": sums.hit_ratio_bytes,
        "bytes_sent": sums.bytes_sent,
        "hit_bytes": sums.hit_bytes,
        "outcomes": dict(found.outcomes),
        "reasons": dict(found.reasons),
        "statuses": _by_class(found),
        "routes": {name: dict(outcomes) for name, outcomes in found.routes.items()},
        "not_understood": dict(found.refusals),
        "latency_us": {
            "hits": _latency(found.hits),
            "others": _latency(found.others),
            "origins": _latency(found.origins),
        },
        "connections": {"open": found.connections_open, "total": found.connections_total},
    }


def _by_class(found: MetricsSnapshot) -> dict[str, int]:
    classes = [sum(counts) for counts in zip(*found.statuses.values(), strict=True)]
    return {f"{first}xx" if first else "other": count for first, count in enumerate(classes) if count}


def _latency(found: Latency) -> dict[str, int | None]:
    shares = {f"p{share * 100:.0f}": found.within_us(share) for share in SHARES}
    return {"count": found.count, "sum": found.sum_us, **shares}
