"""A request that follows another's fetch: it waits for the response, judges whether that is its own too, reads along.

    WAITING ── the head, and it is this request's too ──▶ reading (`Delivery`) ──▶ end
       ├── the head, but of another variant, or not for this request ──┐
       ├── the fetch has ended without a response for others ──────────┼──▶ `go_on`, told how
       └── nothing was heard of it for `cache.collapse_wait_s` ────────┘

For plain requests `lane._crowd` does the same many at a time; here are those with conditions, with directives, with
something stale to fall back on, and those that had to look again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flyby.errors import UpstreamError
from flyby.policy import Outcome, Reason, cache_status, evaluate, may_join, vary_names
from flyby.proxy.fetching.delivery import Delivery
from flyby.proxy.fetching.ended import Ended
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.routing.sent import Sent
from flyby.proxy.stored import hit, variants
from flyby.store import EMPTY, FAILED, HEAD, Entry, Fill

LINGER_S = 0.001  # how long a head waits for its content

GoOn = Callable[[Exchange, Ended, Entry | None], None]


def failed_too(ended: Ended) -> UpstreamError:
    """The owner's failure is its followers': a timeout is one for all of them (RFC 9110 15.6.5)."""
    if ended is Ended.TIMEOUT:
        return UpstreamError(504, "collapsed-timeout", "http_response_timeout", "the origin did not answer in time")
    return UpstreamError(502, "collapsed-failure", "connection_terminated", "the fetch that was shared failed")


class Following:
    """One request that waits for a Fill, whose handle it owns. `go_on` is called when the Fill gives it no response."""

    __slots__ = ("_due", "_exchange", "_fill", "_go_on", "_lingered", "_stale", "_timer")

    def __init__(self, exchange: Exchange, fill: Fill, stale: Entry | None, go_on: GoOn) -> None:
        self._exchange = exchange
        self._fill: Fill | None = fill
        self._stale = stale
        self._go_on = go_on
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._lingered = False
        exchange.source = self

    def __repr__(self) -> str:
        return f"<Following {self._fill!r}>"

    def begin(self) -> None:
        """Wait; what is there already is looked at in the next turn of the loop."""
        assert self._fill is not None
        self._fill.subscribe(self._moved)
        self._patience()
        if self._fill.state != EMPTY:
            self._moved()

    def _patience(self) -> None:
        """Wait so long for the next sign of progress."""
        if self._timer is not None:
            self._timer.cancel()
        seconds = self._exchange.context.config.cache.collapse_wait_s
        self._timer = asyncio.get_running_loop().call_later(seconds, self._stalled)

    def _moved(self) -> None:
        """The Fill has moved; what it did within one turn of the loop is looked at once, when the owner is through."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._due = False
        fill = self._fill
        if fill is None:
            return
        if fill.state == EMPTY:
            self._patience()  # an interim response
            return
        if fill.state == HEAD and not fill.available and not self._lingered:
            # The content may come with the next packet: one write instead of two, and a length that is known.
            self._lingered = self._due = True
            asyncio.get_running_loop().call_later(LINGER_S, self._look)
            return
        self._exchange.run_step(self._judge, fill)

    def _stalled(self) -> None:
        self._leave(Ended.STALLED)

    def _leave(self, ended: Ended) -> None:
        """This Fill has no response for the request: go on without it."""
        self._let_go()
        self._exchange.run_step(self._go_on, self._exchange, ended, self._stale)

    def _let_go(self) -> Fill | None:
        """Stop waiting; the Fill, if it is to be kept, is the caller's to release."""
        fill, self._fill = self._fill, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if fill is not None:
            fill.unsubscribe(self._moved)
            fill.release()
        return fill

    def _judge(self, fill: Fill) -> None:
        """The response's head is there, or the fetch has ended without one."""
        exchange = self._exchange
        store = exchange.context.store
        assert store is not None
        if fill.state == FAILED and not fill.has_head:
            self._leave(Ended(fill.reason))
            return
        if fill.outdated:
            self._leave(Ended.LOST)  # purged after the owner had asked the origin, and before this request came
            return
        fields = hit.stored_fields(fill.head)
        names = vary_names(fields) or ()
        if variants.key_of(store, exchange.primary, names, Sent(exchange)) != fill.key:
            self._leave(Ended.LOST)
            return
        if not may_join(exchange.request, fill.flags, exchange.rules):
            self._leave(Ended.UNCACHEABLE)
            return
        exchange.note(Outcome.MISS, Reason.COLLAPSED, fill.status)
        verdict = evaluate(exchange.request, fields, fill.status)
        if verdict is not None:
            self._let_go()
            status = cache_status(Outcome.MISS, Reason.COLLAPSED, collapsed=True)
            hit.send_verdict(exchange, verdict, fields, status)
            return
        self._read(fill)

    def _read(self, fill: Fill) -> None:
        exchange = self._exchange
        downstream = exchange.downstream
        own = fill.follow()
        self._let_go()
        downstream.begin_ready(
            hit.collapsed_head(own, exchange.context.clock.wall_ms()) + exchange.own_lines, own.length, own.status
        )
        delivery = Delivery(own, downstream, downstream.end, self._cut_off)
        exchange.source = delivery
        delivery.start()
        downstream.flush()

    def _cut_off(self) -> None:
        self._exchange.cut_off(
            UpstreamError(502, "incomplete", "http_response_incomplete", "the shared fetch broke off")
        )

    def client_left(self) -> None:
        """The client has gone."""
        self._let_go()

    def client_ended(self) -> None:
        """A half-closed client waits on: the fetch is another's."""
