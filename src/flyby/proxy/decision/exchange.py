"""One request and its one response: the decision where the response comes from.

    request ─▶ route ─▶ key ─▶ lookup ─▶ fresh: hit (this call stack, no Task)
                                      ├▶ stale, may be refreshed behind: hit, and a refresh in the background
                                      └▶ miss, or must be validated: `miss.start`
            ─▶ upgrade: `upgrade.run` · anything that is not cached: `miss.start_forward`

An exchange does not know which version of HTTP brought it; it talks to a `Downstream`. It is the only place where an
error becomes a response, and where the exchange is recorded for metrics and log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from flyby.errors import StoreError, UpstreamError, WireError
from flyby.policy import (
    CacheRules,
    EntryFlag,
    Outcome,
    Reason,
    Reuse,
    Times,
    cache_status,
    filter_cookies,
    only_if_cached,
    reuse,
)
from flyby.policy.key import forwarded_path
from flyby.proxy.decision import upgrade
from flyby.proxy.fetching import miss
from flyby.proxy.road import pages
from flyby.proxy.routing import forwarding
from flyby.proxy.stored import hit, partial, purge, variants
from flyby.proxy.road.context import Context
from flyby.proxy.road.downstream import Downstream
from flyby.proxy.road.recording import record
from flyby.proxy.routing.resource import resource_key
from flyby.proxy.routing.router import Match
from flyby.proxy.fetching.sinks import Ended
from flyby.store import Entry
from flyby.upstream import Backend
from flyby.wire import REASONS, BodyKind, Fields, RequestHead

RESERVED = b"/.flyby/"
ALLOWED = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
LOOKED_UP = frozenset((b"GET", b"HEAD"))

logger = logging.getLogger("flyby.proxy")


class Exchange:
    """The fate of one request."""

    __slots__ = (
        "_recorded",
        "_task",
        "backend_name",
        "claim_key",
        "context",
        "downstream",
        "extra_tags",
        "first_byte_ms",
        "identity",
        "match",
        "outcome",
        "path",
        "primary",
        "reason",
        "request",
        "rules",
        "since",
        "started",
        "status",
        "stop",
    )

    match: Match
    rules: CacheRules

    def __init__(self, context: Context, downstream: Downstream, request: RequestHead) -> None:
        self.context = context
        self.downstream = downstream
        self.request = request
        self.identity = forwarding.request_id(request)
        self.path = request.path
        self.primary = b""
        self.claim_key = b""
        self.backend_name = ""
        self.outcome = Outcome.ERROR
        self.reason: Reason | None = None
        self.status = 0
        self.first_byte_ms = -1
        self.since = 0  # what had been purged when the origin was asked: `Store.mark`
        self.extra_tags: tuple[bytes, ...] = ()  # given to what is stored, beside the tags that the response names
        self.stop: Any = None  # what to call when the client leaves: the Delivery under way
        self.started = context.clock.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._recorded = False

    def __repr__(self) -> str:
        return f"<Exchange {self.request.method!r} {self.request.host!r} {self.path!r} {self.outcome.value}>"

    # ---- the decision ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Decide, and answer at once where everything lies ready."""
        self.told(self._decide)

    def go_on(self, ended: Ended) -> None:
        """The same, for a request that has waited in vain for another's fetch."""
        self.told(self._decide, ended)

    def told(self, step: Callable[..., None], *given: Any) -> None:
        """Go one step on in the story of this request; an error in it becomes the response."""
        try:
            step(*given)
        except WireError as error:
            self.refuse(error)
        except UpstreamError as error:
            self.fail(error)
        except Exception:
            self._broken()

    def _decide(self, ended: Ended | None = None) -> None:
        request = self.request
        covers = self.downstream.client.covers
        if covers is not None and request.host:
            # RFC 9110 7.4: an https request must have come under a certificate that is valid for its host.
            if not covers(request.host):
                raise WireError(421, "misdirected", "the certificate of this connection is not valid for this host")
            self.downstream.approved = request.host
        if request.method in (b"CONNECT", b"TRACE"):
            raise WireError(405, "method-refused", "CONNECT and TRACE are not offered")
        expect = request.fields.combined(b"expect")
        if expect is not None and not request.expect_continue and expect.lower() != b"100-continue":
            raise WireError(417, "expectation-failed", "only 100-continue can be expected")
        if request.method == b"PURGE":
            purge.run(self)
            return
        if request.path.startswith(RESERVED):
            self._answer_locally()
            return
        match = self.context.router.match(request)
        if match is None:
            raise WireError(404, "no-route", "")
        self.match = match
        if match.redirect is not None:
            self._redirect(match.redirect[0], match.redirect[1])
            return
        forwarding.refuse_loop(request)
        if request.method == b"OPTIONS" and forwarding.ends_here(request):
            self._send_options()
            return
        self.backend_name = match.backend
        self.rules = self.context.rules[id(match.route)]
        self.path = match.path
        if self.rules.ignore_cookies is not None or self.rules.keep_cookies is not None:
            self._leave_out_cookies()
        if request.upgrade == b"websocket":
            self.run(upgrade.run(self))
        elif self.cacheable and ended is not None:
            miss.after(self, ended)
        elif self.cacheable:
            self._look_up()
        else:
            miss.start_forward(self, Reason.METHOD if request.method not in LOOKED_UP else Reason.BYPASS)

    def _send_options(self) -> None:
        """RFC 9110 7.6.2: the request was not to go further, so what is here answers it."""
        self.note(Outcome.LOCAL, None, 204)
        self._send(204, Fields([(b"Allow", ALLOWED)]), b"")

    def _answer_locally(self) -> None:
        """The paths that are flyby's own, under any host: never passed on, never stored."""
        answer = self.context.local.get(self.request.path.split(b"?", 1)[0])
        if answer is None:
            raise WireError(404, "no-such-path", "")
        answer(self)

    def _leave_out_cookies(self) -> None:
        """Neither the cache nor the origin sees the cookies that the route leaves out."""
        kept = filter_cookies(self.request.fields, self.rules).get(b"cookie")
        if kept is None:
            self.request.fields.remove(b"cookie")
        else:
            self.request.fields.set(b"Cookie", kept)

    @property
    def cacheable(self) -> bool:
        """Whether this request may be answered from the store, and its response be stored (RFC 9111 2, 9110 9.2.3)."""
        request = self.request
        return (
            self.context.store is not None
            and not self.match.route.cache.off
            and request.method in LOOKED_UP
            and request.body is BodyKind.NONE
        )

    def find(self) -> Entry | None:
        """The stored response that the request selects; sets the keys."""
        assert self.context.store is not None
        if not self.primary:
            request = self.request
            self.primary, path = resource_key(self.match, request.scheme, request.host, request.path, self.rules)
            self.path = path if self.path == request.path else forwarded_path(self.path, self.rules)
        entry, self.claim_key = variants.find(self.context.store, self.primary, self.request.fields)
        return entry

    def judge(self, entry: Entry) -> Reuse:
        """What may be done with a stored response now."""
        times = Times(entry.born_ms, entry.fresh_ms, entry.swr_s, entry.sie_s)
        return reuse(self.request, times, entry.flags, entry.status, self.context.clock.wall_ms(), self.rules)

    def _look_up(self) -> None:
        entry = self.find()
        if entry is None:
            if not partial.serve(self):
                self._miss(None, Reason.URI_MISS if self.claim_key == self.primary else Reason.VARY_MISS)
            return
        if entry.flags & EntryFlag.HIT_FOR_MISS:
            waiting = entry.fresh_ms > self.context.clock.wall_ms()
            miss.start(self, None, Reason.HIT_FOR_MISS, collapse=not waiting)
            return
        verdict = self.judge(entry)
        if verdict is Reuse.FRESH:
            self._hit(entry, Outcome.HIT, None)
        elif verdict is Reuse.STALE_REVALIDATE_BEHIND:
            if self._hit(entry, Outcome.STALE, Reason.STALE):
                self.context.spawn(miss.refresh(self, entry))
        elif verdict is Reuse.STALE:
            self._hit(entry, Outcome.STALE, Reason.STALE)
        else:
            self._miss(
                entry if verdict is Reuse.REVALIDATE else None,
                Reason.STALE if verdict is Reuse.REVALIDATE else Reason.REQUEST,
            )

    def _hit(self, entry: Entry, outcome: Outcome, reason: Reason | None) -> bool:
        """Send what is stored. False when it cannot be read (a file on a bad disk): it is dropped, and fetched."""
        try:
            hit.serve(self, entry, outcome, reason)
        except StoreError as error:
            logger.error("%s: %s is dropped: %s", self.backend_name, entry.key.decode("ascii", "replace"), error)
            assert self.context.store is not None
            self.context.store.delete(entry.key)
            self._miss(None, Reason.URI_MISS)
            return False
        return True

    def _miss(self, entry: Entry | None, reason: Reason) -> None:
        if only_if_cached(self.request):
            # RFC 9111 5.2.1.7: the client would rather have nothing than wait for the origin.
            self.note(Outcome.ERROR, Reason.ONLY_IF_CACHED, 504)
            self._send_page(
                504, self.identity.decode("ascii", "replace"), cache_status(Outcome.ERROR, Reason.ONLY_IF_CACHED)
            )
            return
        miss.start(self, entry, reason)

    def run(self, story: Coroutine[Any, Any, None]) -> None:
        """Let `story` answer."""
        self._task = self.context.spawn(self._told(story))

    async def _told(self, story: Coroutine[Any, Any, None]) -> None:
        try:
            await story
        except WireError as error:
            self.refuse(error)
        except UpstreamError as error:
            self.fail(error)
        except Exception:
            self._broken()

    # ---- answers of our own ------------------------------------------------------------------------------------------

    def refuse(self, error: WireError) -> None:
        """Answer a request that is at fault."""
        self.note(Outcome.ERROR, None, error.status)
        self._send_page(error.status, error.detail)

    def fail(self, error: UpstreamError) -> None:
        """Answer for an origin that has no answer."""
        self.note(Outcome.ERROR, None, error.status)
        logger.warning(
            "%s: %s (request %s)", self.backend_name or "edge", error.detail, self.identity.decode("ascii", "replace")
        )
        if self.downstream.begun:
            self.downstream.abort()
            self.finished()
            return
        fields, content = pages.upstream_error(error, self.request, self.identity)
        self._send(error.status, fields, content)

    def _broken(self) -> None:
        logger.exception("a fault in flyby itself, while %r", self)
        self.fail(UpstreamError(500, "internal-error", "proxy_internal_error", "a fault in the proxy"))

    def _redirect(self, location: bytes, status: int) -> None:
        self.note(Outcome.LOCAL, None, status)
        fields = Fields([(b"Location", location), (b"Cache-Control", b"no-store")])
        self._send(status, fields, b"")

    def reply(self, status: int, detail: str, extra: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer at the edge, with a page that says `detail` and `extra` fields."""
        self.note(Outcome.LOCAL, None, status)
        fields, content = pages.page(status, self.request, detail)
        for name, value in extra:
            fields.add(name, value)
        self._send(status, fields, content)

    def _send_page(self, status: int, detail: str, status_field: bytes | None = None) -> None:
        fields, content = pages.page(status, self.request, detail)
        if status == 405:
            fields.add(b"Allow", ALLOWED)
        if status_field is not None:
            fields.add(b"Cache-Status", status_field)
        self._send(status, fields, content)

    def _send(self, status: int, fields: Fields, content: bytes) -> None:
        downstream = self.downstream
        if downstream.begun:
            downstream.abort()
            self.finished()
            return
        self.status = status
        downstream.begin(status, REASONS.get(status, b"Error"), fields, len(content))
        downstream.data(content)
        downstream.end()

    def backend(self) -> Backend:
        """The backend that the route names."""
        return self.context.backends[self.backend_name]

    # ---- the record --------------------------------------------------------------------------------------------------

    def note(self, outcome: Outcome, reason: Reason | None, status: int) -> None:
        """Remember what becomes of the request."""
        self.outcome = outcome
        self.reason = reason
        self.status = status

    def client_lost(self) -> None:
        """The client has gone. A fetch that fills the store goes on for whoever follows; nothing else does."""
        if self.stop is not None:
            self.stop()
            self.stop = None
        elif self._task is not None and not self.claim_key:
            self._task.cancel()
        self.finished()

    def finished(self) -> None:
        """The response is sent, or cannot be: record it, once."""
        if self._recorded:
            return
        self._recorded = True
        record(self)
