"""Counters and their snapshot."""

from __future__ import annotations

import pytest

from flyby.metrics import Metrics, MetricsSnapshot, total


def test_counts() -> None:
    metrics = Metrics()
    metrics.count("hit", "")
    metrics.count("hit", "")
    metrics.count("miss", "private")
    metrics.refuse("bad-chunk")
    assert metrics.snapshot() == MetricsSnapshot(
        requests=3, refused=1, outcomes={"hit": 2, "miss": 1}, reasons={"private": 1}, refusals={"bad-chunk": 1}
    )


def test_what_is_counted_elsewhere_is_included() -> None:
    metrics = Metrics()
    metrics.count("hit", "")
    elsewhere = {"hit": 0}
    metrics.include(lambda: elsewhere)
    assert metrics.snapshot().outcomes == {"hit": 1}
    elsewhere["hit"] = 5
    assert metrics.snapshot().outcomes == {"hit": 6}
    assert metrics.snapshot().requests == 6


def test_a_snapshot_does_not_change() -> None:
    metrics = Metrics()
    metrics.count("hit", "")
    before = metrics.snapshot()
    metrics.count("hit", "")
    assert before.outcomes == {"hit": 1}
    with pytest.raises(TypeError):
        before.outcomes["hit"] = 7  # type: ignore[index]


def test_workers_add_up() -> None:
    one, two = Metrics(), Metrics()
    one.count("hit", "")
    two.count("hit", "")
    two.count("pass", "method")
    two.refuse("two-hosts")
    assert total([one.snapshot(), two.snapshot()]) == MetricsSnapshot(
        requests=3, refused=1, outcomes={"hit": 2, "pass": 1}, reasons={"method": 1}, refusals={"two-hosts": 1}
    )
