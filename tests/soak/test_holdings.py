"""What counts as left over: every figure, and in the direction in which it is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak.holdings import MEMORY_MAY_GROW_KIB, Holdings
from tests.soak.traffic import TRAFFIC

REST = Holdings(
    *(0, 0, 0, 0, 0, 0, 0, 0, 0),
    unused=1_000_000,
    tasks=2,
    threads=5,
    descriptors=19,
    memory_kib=20_000,
)


def test_rest_is_rest() -> None:
    assert REST.at_rest
    assert REST.against(REST) == []


@pytest.mark.parametrize(
    "name", ["clients", "buffered", "leased", "in_flight", "dialling", "waiting", "idle", "fills", "loose"]
)
def test_what_is_under_way_is_no_rest(name: str) -> None:
    held = replace(REST, **{name: 3})
    assert not held.at_rest
    assert held.against(REST) == [f"{name}: 3"]


@pytest.mark.parametrize("name", ["tasks", "threads", "descriptors"])
def test_more_than_before_is_left_over(name: str) -> None:
    more, less = (replace(REST, **{name: getattr(REST, name) + by}) for by in (1, -1))
    assert [line.partition(":")[0] for line in more.against(REST)] == [name]
    assert less.against(REST) == []


def test_bytes_of_the_store_may_not_be_lost() -> None:
    assert replace(REST, unused=999_936).against(REST) == ["unused: 64 bytes of the store are lost"]
    assert replace(REST, unused=1_000_064).against(REST) == []


def test_memory_may_grow_by_what_the_allocator_needs() -> None:
    most = REST.memory_kib + MEMORY_MAY_GROW_KIB
    assert replace(REST, memory_kib=most).against(REST) == []
    assert len(replace(REST, memory_kib=most + 1).against(REST)) == 1


def test_every_kind_of_traffic_has_a_rate_that_it_can_keep() -> None:
    assert all(0.05 <= every_s <= 10 for every_s in TRAFFIC.values())
    assert sum(1 / every_s for every_s in TRAFFIC.values()) < 100
