"""The program that is counted still runs: a hit of every case, without valgrind."""

from __future__ import annotations

import pytest

from tests.instructions.hits import REQUESTS, main


@pytest.mark.parametrize("case", REQUESTS)
def test_every_case_is_a_hit(case: str) -> None:
    main(case, 3)
