"""Counters and their snapshot."""

from __future__ import annotations

import pytest

from flyby.metrics import Metrics, MetricsSnapshot, total


def test_counts() -> None:
    metrics = Metrics()
    metrics.connection_opened()
    metrics.connection_opened()
    metrics.connection_closed()
    metrics.count("hit", "", 200, 10)
    metrics.count("hit", "", 200, 10)
    metrics.count("miss", "private", 404, 5)
    assert metrics.snapshot() == MetricsSnapshot(
        requests=3, bytes_sent=25, outcomes={"hit": 2, "miss": 1}, reasons={"private": 1}, statuses={200: 2, 404: 1},
        connections_accepted=2, connections_open=1,
    )  # fmt: skip


def test_a_snapshot_does_not_change() -> None:
    metrics = Metrics()
    metrics.count("hit", "", 200, 1)
    before = metrics.snapshot()
    metrics.count("hit", "", 200, 1)
    assert before.outcomes == {"hit": 1}
    with pytest.raises(TypeError):
        before.outcomes["hit"] = 7  # type: ignore[index]


def test_workers_add_up() -> None:
    one, two = Metrics(), Metrics()
    one.count("hit", "", 200, 1)
    two.count("hit", "", 200, 2)
    two.count("pass", "method", 201, 4)
    found = total([one.snapshot(), two.snapshot()])
    assert (found.requests, found.bytes_sent) == (3, 7)
    assert found.outcomes == {"hit": 2, "pass": 1}
    assert found.statuses == {200: 2, 201: 1}
    assert found.reasons == {"method": 1}
