"""The dynos of a backend as `flyby backend show` prints them: what the workers of running edges say, put together.

Every worker of an edge has a connection of its own to each dyno, and counts for itself. A dyno is one line: its
requests in flight and its idle links are added up, and its state is the one that all workers agree on, or each with
their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyby.control import presence


@dataclass(frozen=True, slots=True)
class ConnectedDyno:
    """One dyno, over all workers that know it."""

    id: str
    name: str
    release: str
    region: str
    node: str
    state: str  # "ready", or "ready 1, ejected 1"
    joined_ms: int
    in_flight: int
    idle: int  # links
    latency_ms: float  # the worst worker's mean
    failures: int
    workers: int  # that it is connected to
    of_workers: int


def connected(directory: Path) -> dict[str, list[ConnectedDyno]]:
    """For each backend of the state in `directory` its dynos, the one that came first at the front."""
    seen: dict[tuple[str, str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for worker in presence.read(directory):
        backends = worker.get("backends")
        for backend, dynos in backends.items() if isinstance(backends, dict) else ():
            for dyno in dynos if isinstance(dynos, list) else ():
                if isinstance(dyno, dict):
                    key = (str(backend), str(worker.get("node")), str(dyno.get("id")))
                    seen.setdefault(key, []).append((worker, dyno))
    found: dict[str, list[ConnectedDyno]] = {}
    for (backend, node, _), views in seen.items():
        found.setdefault(backend, []).append(_merged(node, views))
    for dynos in found.values():
        dynos.sort(key=lambda dyno: (dyno.joined_ms, dyno.name))
    return found


def _merged(node: str, views: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> ConnectedDyno:
    worker, first = views[0]
    dynos = [dyno for _, dyno in views]
    states = Counter(_text(dyno, "state") for dyno in dynos)
    agreed = next(iter(states)) if len(states) == 1 else ", ".join(f"{name} {count}" for name, count in states.items())
    return ConnectedDyno(
        id=_text(first, "id"),
        name=_text(first, "name"),
        release=_text(first, "release"),
        region=_text(first, "region"),
        node=node,
        state=agreed,
        joined_ms=int(min(_number(dyno, "joined_ms") for dyno in dynos)),
        in_flight=int(sum(_number(dyno, "in_flight") for dyno in dynos)),
        idle=int(sum(_number(dyno, "idle") for dyno in dynos)),
        latency_ms=max(_number(dyno, "latency_ms") for dyno in dynos),
        failures=int(sum(_number(dyno, "failures") for dyno in dynos)),
        workers=len(views),
        of_workers=int(_number(worker, "workers")),
    )


def _text(said: dict[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _number(said: dict[str, Any], name: str) -> float:
    value = said.get(name)
    return value if isinstance(value, (int, float)) else 0


def age(ms: float) -> str:
    """For people: the two largest units."""
    seconds = max(int(ms // 1000), 0)
    for size, unit, smaller, below in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // smaller}{below}"
    return f"{seconds}s"
