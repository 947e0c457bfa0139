"""The last step before the client: a Downstream before the client's own, which changes heads and content for this one.

    source (store, Fill, fetch, a page) ─ begin, data, end, send_stored ─▶ Delivery ─▶ the client's Downstream
                                                                             ├ the `deliver` point: head, or an answer
                                                                             └ the delivery chain: head and content

It takes heads and bytes of no HTTP version and gives on the same, so it stands before any. What is stored whole is sent
a piece at a time, at the client's pace: 64 KiB, and what a chain makes of them, are held at most. An answer of the
`deliver` point takes the place of the response, whose source is told that its client has left; an error in the point or
in the chain's `head` is answered with 500 in the same way, and one in the content breaks the response off.

A switch of protocols does not come this way: a request that asks for one keeps its own Downstream.

The state that everybody behind the connection reads from its Downstream (`begun`, `paused`) is kept equal to the
client's after each call. The chain is told when the client leaves by an Occupant that stands before the exchange.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flyby.policy import Outcome
from flyby.proxy.road import replies
from flyby.proxy.road._downstream import Downstream, Occupant
from flyby.proxy.road._outbox import Pieces
from flyby.proxy.road.client import Client
from flyby.proxy.road.replies import Reply
from flyby.proxy.stored.hit import stored_fields
from flyby.proxy.transform.chain import Chain, View
from flyby.proxy.transform.incoming import fault
from flyby.proxy.transform.plan import announced_length, changed_head, of_other_bytes
from flyby.wire import Fields, RequestHead

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange

PIECE = 65_536  # bytes of stored content that go through the chain at a time

Point = Callable[["Exchange", int, Fields], "Reply | None"]
Planner = Callable[[int, Fields], "Chain | None"]

logger = logging.getLogger("flyby.proxy")


class Delivery(Downstream):
    """What the exchange takes for its client, whose own Downstream it was until now.

    `point` is asked about every final head, and may change its fields or answer in its place; `plan` says which chain
    the content goes through.
    """

    def __init__(self, exchange: Exchange, point: Point | None, plan: Planner) -> None:
        self._exchange = exchange
        self._to = client = exchange.downstream
        self._point = point
        self._plan = plan
        self._chain: Chain | None = None
        self._stored: Iterator[View] | None = None  # what is still to be sent of a whole response
        self._wake: Callable[[], object] | None = None
        self._plain = False  # a transform has failed: the error's page is not shown to another
        self._over = False  # the response has ended, or another in its place: whatever comes is dropped
        self.stand_before(client)
        client.answered_by(Farewell(exchange, self))

    def __repr__(self) -> str:
        return f"<Delivery to {self._to!r} through {self._chain!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)  # what only some connections know: `pipe_write`

    @property
    def client(self) -> Client:
        """The client's own connection tells."""
        return self._to.client

    # ---- the head ----------------------------------------------------------------------------------------------------

    def begin(self, status: int, reason: bytes, fields: Fields, length: int) -> None:
        if self._over:
            return
        exchange = self._exchange
        try:
            reply, length = self._judged(status, fields, length)
        except Exception:
            logger.exception("a fault before delivery, while %r", exchange)
            self._end_chain()
            exchange.note(Outcome.ERROR, None, 500)
            reply = replies.upstream_failure(fault(), exchange.request, exchange.identity)
        if reply is None:
            self._to.begin(status, reason, fields, length)
            self._same()
        else:
            self._answer(*reply)

    def begin_ready(self, head: bytes, length: int, status: int) -> None:
        self.begin(status, reason_in(head), stored_fields(head), length)

    def send_stored(self, head: bytes, length: int, views: Iterable[View | Pieces], status: int) -> None:
        self.begin(status, reason_in(head), stored_fields(head), length)
        if not self._over:
            self._stored = iter(()) if self._exchange.request.method == b"HEAD" else pieces_of(views)
            self._to.on_writable(self._pump)
            self._pump()

    def _judged(self, status: int, fields: Fields, length: int) -> tuple[Reply | None, int]:
        """Another response in this one's place, or None; and the length of the content as it will be."""
        if self._plain:
            return None, length
        exchange = self._exchange
        reply = self._point(exchange, status, fields) if self._point is not None else None
        if reply is not None:
            exchange.note(Outcome.LOCAL, None, reply[0])
            return reply, length
        self._chain = chain = self._plan(status, fields)
        if chain is not None:
            length = changed_head(chain, fields, announced_length(fields) if length < 0 else length)
            if exchange.request.method == b"HEAD":
                self._end_chain()
        return None, length

    def _answer(self, status: int, fields: Fields, content: bytes) -> None:
        """Send this response instead; the source is told, as if the client had gone."""
        exchange = self._exchange
        fields = replies.own_fields(fields, exchange.outcome, exchange.reason, exchange.context.clock.wall_ms())
        self._leave_source()
        self._to.begin(status, replies.reason_of(status), fields, len(content))
        self._to.data(content)
        self._same()
        self._over = True
        self._to.end()

    def _leave_source(self) -> None:
        """Tell what produces the response that nobody wants it, when it is through with what it is doing."""
        source, self._exchange.source = self._exchange.source, None
        if source is not None:
            asyncio.get_running_loop().call_soon(source.client_left)

    # ---- the content -------------------------------------------------------------------------------------------------

    def data(self, view: View) -> None:
        if not self._over:
            self._give((view,) if self._chain is None else self._chain.data(view))

    def end(self, trailers: Fields | None = None) -> None:
        if self._over:
            return
        if self._chain is not None:
            if not self._give(self._chain.end()):
                return
            if trailers is not None:
                of_other_bytes(trailers)
            self._chain = None
        self._over = True
        self._to.end(trailers)

    def _give(self, views: Iterable[View]) -> bool:
        """Send `views`; False when that has failed, and the response is broken off."""
        try:
            for view in views:
                self._to.data(view)
        except Exception:
            logger.exception("a transform failed, while %r", self._exchange)
            self._plain = True
            self._leave_source()
            self._exchange.cut_off(fault())
            return False
        self._same()
        return True

    def _pump(self) -> None:
        """Send what is stored, as much as the client takes."""
        self._same()
        while self._stored is not None and not self._over and not self.paused:
            view = next(self._stored, None)
            if view is not None:
                self.data(view)
            else:
                self._stored = None
                self.end()

    def flush(self) -> None:
        if not self._over:
            self._to.flush()

    def on_writable(self, callback: Callable[[], object] | None) -> None:
        self._wake = callback
        if not self._over:
            self._to.on_writable(None if callback is None else self._writable)

    def _writable(self) -> None:
        self._same()
        if self._wake is not None:
            self._wake()

    # ---- the rest is the client's ------------------------------------------------------------------------------------

    def _same(self) -> None:
        """Have the state that is read here equal to the client's; behind the end it stays as it was."""
        if not self._over:
            self.begun = self._to.begun
            self.paused = self._to.paused

    def expect_satisfied(self) -> None:
        if not self._over:
            self._to.expect_satisfied()

    def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        if not self._over:
            self._to.interim(status, reason, fields)

    def retract(self) -> bool:
        retracted = not self._over and self._to.retract()
        if retracted:
            self._stored = None
            self._end_chain()
        self._same()
        return retracted

    def abort(self) -> None:
        if not self._over:
            self.left()
            self._to.abort()

    def reset(self) -> None:
        if not self._over:
            self._to.reset()

    def left(self) -> None:
        """Nothing more is sent: let go of what is held for the client."""
        self._same()
        self._over = True
        self._stored = None
        self._end_chain()

    def _end_chain(self) -> None:
        chain, self._chain = self._chain, None
        if chain is not None:
            chain.fail()


class Farewell(Occupant):
    """Stands before the exchange on the connection, and tells the delivery when the client leaves."""

    def __init__(self, exchange: Exchange, delivery: Delivery) -> None:
        self._exchange = exchange
        self._delivery = delivery

    def as_sent(self) -> RequestHead:
        """The head of the request under way; what the connection asks of whoever answers it."""
        return self._exchange.as_sent()

    def client_lost(self) -> None:
        self._exchange.client_lost()
        self._delivery.left()

    def client_ended(self) -> None:
        self._exchange.client_ended()

    def finished(self) -> None:
        self._exchange.finished()


def reason_in(head: bytes) -> bytes:
    """The reason phrase in a stored head's status line."""
    return head.split(b"\r\n", 1)[0].split(b" ", 2)[2]


def pieces_of(views: Iterable[View | Pieces]) -> Iterator[View]:
    """Stored content, a piece at a time."""
    for whole in views:
        if isinstance(whole, Pieces):
            yield from whole
            continue
        view = memoryview(whole)
        for at in range(0, len(view), PIECE):
            yield view[at : at + PIECE]
