"""What one worker tells the others, and the command line, of its dynos; and what it learns of theirs.

    a dyno joins, leaves, is ready or not     published in the same turn of the loop, once for all that change in it
    counters                                  published every `EVERY_S`

A dyno registers with one worker after another. A request that comes to a worker which has not met it yet is answered by
`elsewhere`: a dyno of this backend is connected to another worker, so one is to be expected here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flyby.clock import Clock
from flyby.control import State, presence
from flyby.tunnel.dynos import Dynos

EVERY_S = 2.0
LOOK_S = 0.1  # between two looks at what the others say

logger = logging.getLogger("flyby.tunnel")


class Report:
    """See the module's text. `about` is what stands in it beside the dynos."""

    __slots__ = (
        "_about",
        "_clock",
        "_closed",
        "_directory",
        "_due",
        "_dynos",
        "_elsewhere",
        "_failed",
        "_looked",
        "_name",
        "_soon",
        "_state",
    )

    def __init__(
        self,
        name: str,
        about: dict[str, Any],
        state: Callable[[], State | None],
        dynos: Callable[[], Iterable[Dynos]],
        clock: Clock,
    ) -> None:
        self._name = name
        self._about = {**about, "pid": os.getpid()}
        self._state = state
        self._dynos = dynos
        self._clock = clock
        self._directory: Path | None = None  # where something was published
        self._due = 0.0
        self._soon = False
        self._closed = False
        self._failed = False  # the last time; said once
        self._looked = float("-inf")
        self._elsewhere: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Report {self._name} in {self._directory}>"

    def changed(self) -> None:
        """Publish before the loop sleeps again."""
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._publish)

    def tick(self, now: float) -> None:
        """Publish when it is time."""
        if now >= self._due:
            self._publish()

    def _publish(self) -> None:
        self._soon = False
        if self._closed:
            return
        self._due = self._clock.monotonic() + EVERY_S
        state = self._state()
        if state is None:
            return
        directory = state.path.parent
        try:
            if directory != self._directory:
                presence.sweep(directory)
            presence.publish(directory, self._name, self._said())
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("%s: %s; flyby backend show cannot tell which dynos are here", directory, error.strerror)
            self._failed = True
        self._directory = directory

    def _said(self) -> dict[str, Any]:
        backends = {}
        for dynos in self._dynos():
            backends[dynos.backend.name] = [
                {
                    "id": each.id,
                    "name": each.name,
                    "release": each.release,
                    "region": each.region,
                    "state": each.state,
                    "joined_ms": dyno.joined,
                    "in_flight": each.in_flight,
                    "idle": each.idle,
                    "latency_ms": round(each.latency_s * 1000, 1),
                    "failures": each.failures_total,
                }
                for dyno in dynos
                for each in (dyno.statistics(),)
            ]
        return {**self._about, "backends": backends}

    def elsewhere(self, backend: str) -> bool:
        """Whether another worker has a dyno of `backend`. Looks at most ten times a second."""
        now = self._clock.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            state = self._state()
            others = presence.read(state.path.parent, but=self._name) if state is not None else []
            self._elsewhere = frozenset(name for said in others for name, dynos in _backends(said).items() if dynos)
        return backend in self._elsewhere

    def close(self) -> None:
        """Take back what was published, and publish nothing more."""
        self._closed = True
        if self._directory is not None:
            presence.withdraw(self._directory, self._name)
            self._directory = None


def _backends(said: dict[str, Any]) -> dict[str, Any]:
    backends = said.get("backends")
    return backends if isinstance(backends, dict) else {}
