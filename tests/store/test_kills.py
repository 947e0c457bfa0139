"""A short run of `tests.store.kills`, with few workers and with many."""

from __future__ import annotations

import pytest

from tests.store.kills import play


@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", [2, 4])
def test_kills_under_load_cost_the_dead_ones_connections_only(workers: int) -> None:
    played = play(20, workers, seed=workers)
    assert played.kills == 20
    assert played.broken > 0
    assert min(played.kinds[kind] for kind in ("hits", "joined", "fetched")) > 0
    assert (played.wrong, played.hung, played.problems, played.lost) == ([], [], [], 0)
