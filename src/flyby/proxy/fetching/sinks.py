"""Where an upstream response's content goes when it is stored: into the store, from where clients read it.

What is not stored goes to the client as it comes, and that sink is the `Answer` itself. Both are sinks in the sense of
`upstream`: `data(view)`…, then `end(trailers)` or `fail(error)`. A client that is behind pauses the upstream; a Fill
never does, its readers wait for themselves.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from flyby.errors import UpstreamError
from flyby.proxy.fetching._answer import Answer
from flyby.store import Fill
from flyby.wire import Fields

if TYPE_CHECKING:
    from flyby.proxy.decision.exchange import Exchange


class Ended(enum.IntEnum):
    """Why a Fill was given up, as its followers read it."""

    LOST = 0  # the owner vanished: elect another
    UNSTORABLE = 1  # the store has no room for it
    UNCACHEABLE = 2  # each follower needs an answer of its own
    UPSTREAM = 3  # the origin failed
    REVALIDATED = 4  # the stored response is good again: look it up


class ToFill:
    """The content goes into the store; it becomes visible to later requests only once it is whole.

    When the store has no room for the rest, the upstream waits until the owner's client has read what the Fill holds;
    then `redirect` leads the live response to that client.
    """

    __slots__ = ("_after", "_answer", "_fill", "_redirected", "_rest")

    def __init__(self, answer: Answer, fill: Fill, after: memoryview | bytes = b"") -> None:
        self._after = after
        self._answer = answer
        self._fill = fill
        self._redirected: Answer | None = None
        self._rest = b""

    def data(self, view: memoryview) -> None:
        if self._redirected is not None:
            self._redirected.data(view)
        elif self._rest:
            self._rest += bytes(view)
        elif not self._fill.write(view):
            self._rest = bytes(view)
            self._answer.lease.connection.pause_reading()
            self._fill.abort(Ended.UNSTORABLE)
            self._fill.release()

    def redirect(self, exchange: Exchange) -> None:
        """The Fill has failed for want of room and the client has read all of it: go on there."""
        self._redirected = self._answer.to_client(exchange)
        rest, self._rest = self._rest, b""
        self._redirected.data(memoryview(rest))
        if not exchange.downstream.paused:
            self._answer.lease.connection.resume_reading()

    def abandon(self) -> None:
        """Nobody is left to read the rest."""
        if self._rest:
            self._answer.discard()

    def end(self, trailers: Fields | None) -> None:
        if self._redirected is not None:
            self._redirected.end(trailers)
        else:
            self._answer.finish()
            if not len(self._after) or self._fill.write(self._after):
                self._fill.commit()
            self._fill.release()

    def fail(self, error: UpstreamError) -> None:
        if self._redirected is not None:
            self._redirected.fail(error)
        else:
            self._answer.discard()
            self._fill.abort(Ended.UPSTREAM)
            self._fill.release()
