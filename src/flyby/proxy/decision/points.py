"""The four points of a request at which a route may have something of its own, and where its chains are put in.

    request    before the lookup    answers, or changes the request's fields
    fetch      before the origin    answers, or changes the fields that are sent on; once for all who follow
    response   before storing       changes the response's fields, or answers in its place; then comes the fetch chain
    deliver    before the client    changes the fields for this client, or answers in its place; then the delivery chain

A hook returns None to let pass, or a `Reply`. What it raises becomes the response: `WireError` and `UpstreamError` as
anywhere, all else 500. Hooks of one point are called in their order, the first reply ends it. A route without seams has
no row of its own in the table of steps, leaves the fast lane to nobody, and costs a fetch one compare.

Parts and transforms do not go together (RFC 9110 14.2: Range may be ignored): where a route has a delivery chain no
Range is seen, and where it has a fetch chain the origin sees none, while stored content, which is changed already, is
served in parts as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flyby.policy import Outcome
from flyby.proxy.transform.delivery import Delivery
from flyby.proxy.transform.incoming import incoming
from flyby.proxy.transform.plan import Chains, chain_for

if TYPE_CHECKING:
    from flyby.proxy.fetching._fetch import Fetch
    from flyby.proxy.road._exchange import Exchange
    from flyby.proxy.road.replies import Reply
    from flyby.proxy.transform.chain import Chain
    from flyby.wire import Fields, ResponseHead

Ask = Callable[["Exchange"], "Reply | None"]
AskOfHead = Callable[["Exchange", int, "Fields"], "Reply | None"]


@dataclass(frozen=True, slots=True)
class Points:
    """The hooks of one route, by the point at which they are called."""

    request: tuple[Ask, ...] = ()
    fetch: tuple[Ask, ...] = ()
    response: tuple[AskOfHead, ...] = ()
    deliver: tuple[AskOfHead, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteSeams:
    """The points and the chains of one route: `context.Seams`."""

    points: Points = field(default_factory=Points)
    chains: Chains = field(default_factory=Chains)

    def at_request(self, exchange: Exchange) -> bool:
        """Ask the `request` point, and put a `Delivery` before the client. True when the request has its answer."""
        if exchange.request.upgrade is None and (self.points.deliver or self.chains.delivery):
            exchange.downstream = Delivery(exchange, self._deliver, self._plan_for(exchange))
        if self.chains.delivery:
            _forget_range(exchange.request.fields)
        return _answered(exchange, _first(self.points.request, exchange))

    def at_fetch(self, fetch: Fetch) -> bool:
        """Ask the `fetch` point. True when the request has its answer, and the fetch has ended."""
        exchange = fetch.exchange
        if self.chains.fetch:
            _forget_range(exchange.request.fields)
        try:
            reply = _first(self.points.fetch, exchange)
        except BaseException:
            fetch.give_way()
            raise
        if reply is not None:
            fetch.give_way()
        return _answered(exchange, reply)

    def at_response(self, fetch: Fetch, head: ResponseHead) -> tuple[ResponseHead, Any]:
        """Ask the `response` point, and begin the fetch chain: the head as it goes on, and the sink or None."""
        exchange = fetch.exchange
        reply = _first(self.points.response, exchange, head.status, head.fields)
        if reply is not None:
            fetch.give_way()
            _answered(exchange, reply)
            return head, None
        return incoming(fetch, self.chains.fetch, head) if self.chains.fetch else (head, None)

    def _deliver(self, exchange: Exchange, status: int, fields: Fields) -> Reply | None:
        return _first(self.points.deliver, exchange, status, fields)

    def _plan_for(self, exchange: Exchange) -> Callable[[int, Fields], Chain | None]:
        request = exchange.request.fields
        return lambda status, fields: chain_for(self.chains.delivery, status, fields, request)


def _first(hooks: tuple[Callable[..., Reply | None], ...], *given: Any) -> Reply | None:
    """The first reply of `hooks`, which are called until there is one."""
    for hook in hooks:
        reply = hook(*given)
        if reply is not None:
            return reply
    return None


def _answered(exchange: Exchange, reply: Reply | None) -> bool:
    """Answer with `reply`, if there is one."""
    if reply is None:
        return False
    status, fields, content = reply
    exchange.answer(Outcome.LOCAL, None, status, fields, content)
    return True


def _forget_range(fields: Fields) -> None:
    fields.remove(b"range")
    fields.remove(b"if-range")
