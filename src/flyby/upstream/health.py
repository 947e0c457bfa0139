"""Active checks: is an origin there, asked at a steady interval whether or not requests go to it.

One GET of `path` on a connection of its own; a 2xx or 3xx within `timeout_s` is good. `fall` bad checks in a row take
the origin out, `rise` good ones bring it back; it starts as healthy, so that a start does not wait for checks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from flyby.errors import UpstreamError
from flyby.log import operations
from flyby.upstream.balance import Member
from flyby.upstream.connection import UpstreamConnection
from flyby.wire import Fields, serialise_request

JITTER = 0.1  # of the interval, so that workers and nodes do not ask in step


class HealthSettings(Protocol):
    """`config.Health`."""

    @property
    def path(self) -> str: ...
    @property
    def interval_s(self) -> float: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def rise(self) -> int: ...
    @property
    def fall(self) -> int: ...


class Verdict:
    """Healthy or not, changed only by `rise` or `fall` checks in a row that say otherwise."""

    __slots__ = ("_against", "_fall", "_rise", "healthy")

    def __init__(self, rise: int, fall: int) -> None:
        self._rise = rise
        self._fall = fall
        self._against = 0
        self.healthy = True

    def __repr__(self) -> str:
        return f"<Verdict {'healthy' if self.healthy else 'unhealthy'} against={self._against}>"

    def observe(self, good: bool) -> bool:
        """Count one check; whether the verdict has changed."""
        if good is self.healthy:
            self._against = 0
            return False
        self._against += 1
        if self._against < (self._rise if good else self._fall):
            return False
        self._against = 0
        self.healthy = good
        return True


async def probe(dial: Callable[[], Awaitable[UpstreamConnection]], host: bytes, path: bytes, timeout_s: float) -> bool:
    """One check: whether the origin answers, and well."""
    try:
        async with asyncio.timeout(timeout_s):
            connection = await dial()
            try:
                fields = Fields([(b"Host", host), (b"User-Agent", b"flyby-health"), (b"Connection", b"close")])
                connection.send(serialise_request(b"GET", path, fields))
                head = await connection.read_head(b"GET")
                return 200 <= head.status < 400
            finally:
                connection.abort()
    except (UpstreamError, TimeoutError):
        return False


class Checks:
    """The checks of one origin: a task that runs until it is stopped."""

    __slots__ = ("_interval_s", "_member", "_probe", "_sleep", "_task", "verdict")

    def __init__(
        self,
        member: Member,
        settings: HealthSettings,
        probe: Callable[[], Awaitable[bool]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.verdict = Verdict(settings.rise, settings.fall)
        self._member = member
        self._interval_s = settings.interval_s
        self._probe = probe
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to check, the first time at once."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Check no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            if self.verdict.observe(await self._probe()):
                self._member.healthy = self.verdict.healthy
                if self.verdict.healthy:
                    operations.info("origin %s is healthy again", self._member.address)
                else:
                    operations.warning("origin %s fails its health checks, it gets no requests", self._member.address)
            await self._sleep(self._interval_s * (1 + JITTER * (2 * random.random() - 1)))
