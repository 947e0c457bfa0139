"""Whether the application takes requests: checks of its local port, with rise and fall.

    not ready ── `rise` checks passed in a row ──▶ ready ── `fall` failed in a row ──▶ not ready

A check connects (and with a path asks for it: 200 to 399 passes). While something is in doubt they follow each other
every 200 ms, so that a booted app is found at once and a dead one is told within a second; otherwise every 5 s, and not
at all while its answers to real requests say the same. A refused connection asks for a check at once.

An app that is not ready for ten seconds is named in the log, and again each minute: where it was looked for, what went
wrong, and what to do. Nothing else would say why its clients get 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any, Callable

from flyby_agent import log
from flyby_agent.app import App
from flyby_agent.faults import reason

SOON_S = 0.2
EVERY_S = 5.0
WITHIN_S = 5.0
RISE = 2
FALL = 3
SAID_AFTER_S = 10.0
SAID_EVERY_S = 60.0

_STATUS = re.compile(rb"HTTP/1\.[01] ([23][0-9][0-9])[ \r\n]")


class Verdict:
    """Counts checks; `ready` changes only after enough of the same kind in a row."""

    __slots__ = ("_fall", "_rise", "ready", "row")

    def __init__(self, rise: int = RISE, fall: int = FALL) -> None:
        self._rise = rise
        self._fall = fall
        self.ready = False
        self.row = 0  # checks in a row that speak against `ready`

    def feed(self, passed: bool) -> bool:
        """True when this check changed the verdict."""
        self.row = 0 if passed == self.ready else self.row + 1
        if self.row < (self._fall if self.ready else self._rise):
            return False
        self.ready, self.row = passed, 0
        return True

    @property
    def in_doubt(self) -> bool:
        return self.row > 0 or not self.ready


class Health:
    """Checks the app for as long as `run` runs; `on_change(ready)` after each change."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app: App,
        path: str,
        on_change: Callable[[bool], Any],
        verdict: Verdict,
        every_s: float = EVERY_S,
    ) -> None:
        self._loop = loop
        self._app = app
        self._path = path
        self._on_change = on_change
        self._every = every_s
        self._asked = asyncio.Event()
        self.verdict = verdict
        self.error = "not checked yet"
        self.answered = False  # the last check's connection was accepted
        self._well_at = loop.time()  # when it was last ready, or when checks began
        self._said_at = float("-inf")

    def check_soon(self) -> None:
        self._asked.set()

    async def run(self) -> None:
        while True:
            error = await self.check()
            if error and error != self.error and self.verdict.ready:
                log.warning(f"the app on {self._app.name} failed a check: {error}")
            self.error = error
            if self.verdict.feed(not error):
                self._on_change(self.verdict.ready)
            self._remind()
            if self.verdict.in_doubt:
                await asyncio.sleep(SOON_S)
                continue
            self._asked.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._every)

    def _remind(self) -> None:
        """Say that the app is not ready, once it has not been for long, and now and then."""
        now = self._loop.time()
        if self.verdict.ready:
            self._well_at, self._said_at = now, float("-inf")
        elif self.error and now - self._well_at >= SAID_AFTER_S and now - self._said_at >= SAID_EVERY_S:
            self._said_at = now
            remedy = (
                f"FLY_HEALTH_PATH ({self._path}) must be answered with 200 to 399"
                if self.answered
                else "Does it run, and does it listen there? FLY_PORT and FLY_LOCAL_ENDPOINT name another place"
            )
            log.warning(
                f"the app on {self._app.name} has not been ready for {now - self._well_at:.0f} s, so this dyno gets no"
                f" requests: {self.error}. {remedy}"
            )

    async def check(self) -> str:
        """What is wrong; empty when the app is well."""
        app = self._app
        unasked = self.verdict.ready and not self._path and not self._asked.is_set()
        if unasked and self._loop.time() - app.answered_at < self._every:
            return ""
        try:
            return await asyncio.wait_for(self._probe(), WITHIN_S)
        except asyncio.TimeoutError:
            return f"no answer within {WITHIN_S:.0f} s"
        except OSError as error:
            return reason(error)

    async def _probe(self) -> str:
        self.answered = False
        reader, writer = await self._app.open()
        self.answered = True
        try:
            if not self._path:
                return ""
            writer.write(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("ascii"))
            line = await reader.readline()
            return (
                "" if _STATUS.match(line) else f"GET {self._path} was answered {log.flat(line.decode('latin-1'), 60)!r}"
            )
        except ValueError:
            return f"GET {self._path} was not answered with HTTP"
        finally:
            writer.transport.abort()
