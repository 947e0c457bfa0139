"""The fetch chain at work: a sink before the fetch, which gets the content as it has become.

    origin's connection ─ data, end, fail ─▶ Incoming ─▶ chain ─▶ Fetch ─▶ the Fill, or the client

So what is stored, what the client gets and what followers read is the same. A fault of a transform breaks the response
off, as a fault of the origin would: what has gone out cannot be called back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from flyby.errors import UpstreamError
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.stored.hit import stored_fields
from flyby.proxy.transform.chain import Chain, View
from flyby.proxy.transform.plan import Filter, announced_length, chain_for, changed_head, of_other_bytes, planned
from flyby.store import Entry
from flyby.wire import BodyKind, Fields, ResponseHead

logger = logging.getLogger("flyby.proxy")


class Receiver(Protocol):
    """What a chain needs of a fetch."""

    @property
    def exchange(self) -> Exchange: ...
    @property
    def stale(self) -> Entry | None: ...

    def data(self, view: View, /) -> None: ...
    def end(self, trailers: Fields | None, /) -> None: ...
    def fail(self, error: UpstreamError, /) -> None: ...


def fault() -> UpstreamError:
    """What a response is broken off with when a transform fails."""
    return UpstreamError(500, "transform", "proxy_internal_error", "a transform failed")


class Incoming:
    """The sink of one fetch's content; `fetch` is the sink of what the chain makes of it."""

    __slots__ = ("_chain", "_fetch")

    def __init__(self, fetch: Receiver, chain: Chain) -> None:
        self._fetch = fetch
        self._chain: Chain | None = chain

    def __repr__(self) -> str:
        return f"<Incoming {self._chain!r}>"

    def data(self, view: View) -> None:
        """A part has come."""
        if self._chain is not None:
            self._give(self._chain.data(view))

    def end(self, trailers: Fields | None) -> None:
        """All of it has come."""
        if self._chain is not None and self._give(self._chain.end()):
            self._chain = None
            if trailers is not None:
                of_other_bytes(trailers)
            self._fetch.end(trailers)

    def fail(self, error: UpstreamError) -> None:
        """No more comes."""
        self.left()
        self._fetch.fail(error)

    def left(self) -> None:
        """The fetch has ended: so does the chain, if it has not."""
        chain, self._chain = self._chain, None
        if chain is not None:
            chain.fail()

    def _give(self, views: Iterable[View]) -> bool:
        """Give `views` to the fetch; False when there is no fetch any more."""
        fetch = self._fetch
        try:
            for view in views:
                fetch.data(view)
                if self._chain is None:
                    return False
        except Exception:
            logger.exception("a transform failed, while %r", fetch)
            self.fail(fault())
            return False
        return True


def incoming(fetch: Receiver, filters: tuple[Filter, ...], head: ResponseHead) -> tuple[ResponseHead, Incoming | None]:
    """The head of a response as it is behind the fetch chain, and the sink for its content; None where it stays.

    A 304 that freshens what was changed speaks of what the origin holds: its fields are set right as those were.
    """
    stale = fetch.stale
    if head.status == 304:
        if stale is not None and planned(filters, stale.status, stored_fields(stale.head)):
            of_other_bytes(head.fields)
        return head, None
    chain = chain_for(filters, head.status, head.fields)
    if chain is None:
        return head, None
    method = fetch.exchange.request.method
    kind, length = head.framing(method)
    fields = head.fields.copy()
    length = changed_head(chain, fields, announced_length(fields) if kind is BodyKind.NONE else length)
    if length >= 0:
        fields.set(b"Content-Length", b"%d" % length)
        fields.remove(b"transfer-encoding")
    elif kind is not BodyKind.NONE:
        fields.set(b"Transfer-Encoding", b"chunked")  # where it ends is certain, how long it is is not
    changed = ResponseHead(head.status, head.reason, 11, fields, keep_alive=head.keep_alive)
    if method == b"HEAD":
        chain.fail()
        return changed, None
    return changed, Incoming(fetch, chain)
