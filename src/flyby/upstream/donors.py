"""Connections that arrive instead of being dialled: what a backend asks of whoever receives them (the tunnel).

A donor is a peer that speaks for the origin, such as the agent in a dyno, and keeps idle connections here; to a
connection it makes no difference. Donors come before a backend's own origins.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from flyby.upstream.pool import Lease


@dataclass(frozen=True, slots=True)
class DonorStatistics:
    """A snapshot of one donor, as this process sees it."""

    name: str  # web.1
    id: str
    release: str
    region: str
    state: str  # ready, not-ready, resting, ejected, draining
    capacity: int
    in_flight: int
    idle: int
    pipes: int  # connections that switched protocols
    donated_total: int
    failures_total: int
    refused_total: int
    latency_s: float
    reported_in_flight: int  # by the donor, over all processes that it serves
    reported_latency_s: float


class Donors(Protocol):
    """The donors of one backend. `exclude` holds addresses of members that have just failed this request."""

    def checkout(self, exclude: Collection[str] = ()) -> Lease | None:
        """A donated connection, if one lies ready."""

    async def wait(self, exclude: Collection[str] = (), *, fallback: bool) -> Lease | None:
        """One as soon as there is one. None when the backend's own origins are to be asked, which `fallback` says
        exist; raises `UpstreamError` when there is nobody to ask."""

    def refused(self, lease: Lease) -> None:
        """The donor has handed a request back, untouched: its origin does not take requests at the moment."""

    def statistics(self) -> tuple[DonorStatistics, ...]:
        """A snapshot of each."""
