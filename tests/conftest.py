"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.edge import ServedEdge, served


@pytest.fixture
def serve_edge() -> Iterator[Callable[..., ServedEdge]]:
    """Start `flyby serve` with the given options (those of `served`); stopped when the test ends."""
    with ExitStack() as running:

        def start(*options: str, **settings: Any) -> ServedEdge:
            return running.enter_context(served(*options, **settings))

        yield start


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """That nothing of what was named measures time is no failure of the run that plays only this (tox.ini)."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr == "serial":
        session.exitstatus = pytest.ExitCode.OK
