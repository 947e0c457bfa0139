# cython: language_level=3
"""A request's content on its way to an origin: when it is worth a connection, and how it is sent.

    nothing, or little, has come ── whole, or 64 KiB ───────────────────────────▶ a connection is worth taking
       ├ the client expects 100 ── a place in the early share ──────────────────▶ at once, head first
       │    └ none is free: flyby says 100 itself                  (RFC 9110 10.1.1; a stated deviation)
       └ silence for 250 ms ── a place in the early share ──────────────────────▶ with what there is

So a client that sends slowly, or not at all, holds no connection that others wait for; only so many requests as the
early share has places go ahead of their content. An app that was asked head first and says neither 100 nor anything
final within a second gets the content all the same.

What was taken from the client cannot be asked for again: the first 64 KiB are kept until the response's head is there,
for a second try.
"""

import asyncio

from flyby.proxy.routing import forwarding
from flyby.wire import CHUNK_END as _CHUNK_END
from flyby.wire import BodyKind, chunk_head, last_chunk

from flyby.clock cimport monotonic
from flyby.proxy.road._content cimport Content
from flyby.proxy.road._exchange cimport Exchange
from flyby.upstream._exchange cimport UpstreamExchange

cdef enum:
    KEPT = 65_536   # bytes of content that are kept for a second try
    READY = 65_536  # bytes of content that are worth a connection: the client's is not read any further

cdef double SILENCE_S = 0.25   # a client that sends nothing for so long may wait for the response's beginning
cdef double CONTINUE_S = 1.0   # so long an app may take to ask for content, or to refuse it

cdef object CHUNKED = BodyKind.CHUNKED
cdef bytes CHUNK_END = _CHUNK_END


cdef class Upload:
    """The content of one request. `fetch` is told by `content_ready`, `content_failed` and `request_sent`."""

    def __init__(self, fetch, Exchange exchange not None):
        self._fetch = fetch
        self._exchange = exchange
        self._content = exchange.downstream.content
        self._chunked = exchange.request.body is CHUNKED
        self._kept = []
        self._content.on_change = self._changed

    def __repr__(self):
        return f"<Upload {'sent' if self.all_sent else 'sending' if self._connection is not None else 'waiting'}>"

    cdef bint ready(self) except -1:
        """Whether what has come is worth a connection."""
        return self._content.finished or self._content.size >= READY

    cdef bint head_first(self) except -1:
        """Whether the client waits for the app's word before it sends anything."""
        return self._early and self._exchange.request.expect_continue and not self._content.received

    cdef int begin(self) except -1:
        """Wait until it is; the fetch is told, now or later. Raises the `WireError` of content that has failed."""
        if self._content.error is not None:
            raise self._content.error
        if self._exchange.request.expect_continue:
            if self._go_ahead():
                self._fetch.content_ready()
                return 0
            self._exchange.downstream.expect_satisfied()
        return self._limit(SILENCE_S, self._silent)

    cdef bint _go_ahead(self) except -1:
        """Take a place in the early share; False when there is none."""
        self._early = self._exchange.context.early.take(self._exchange.backend_name)
        return self._early

    cdef int _give_place_back(self) except -1:
        if self._early:
            self._early = False
            self._exchange.context.early.give_back(self._exchange.backend_name)
        return 0

    def _silent(self):
        """The client has sent nothing for a while."""
        self._timer = None
        if self._go_ahead():
            self._fetch.content_ready()
        else:
            self._limit(SILENCE_S, self._silent)

    def _changed(self):
        """Content has come, or its end, or a fault in it."""
        cdef Content content = self._content
        if content.error is not None:
            self._fetch.content_failed(content.error)
        elif self._connection is not None:
            self.pump()
        elif self._timer is not None:
            if self.ready():
                self._stop_timer()
                self._fetch.content_ready()
            else:
                self._limit(SILENCE_S, self._silent)

    # ---- sending -----------------------------------------------------------------------------------------------------

    cdef bytes first(self):
        """What leaves in one write with the request's head: what was sent before on another connection, and what has
        come since."""
        parts = [self._framed(part) for part in self._kept]
        part = self._take()
        if part:
            parts.append(self._framed(part))
        if self._content.finished:
            parts.append(self._closing())
            self.all_sent = True
        return b"".join(parts)

    cdef int send_on(self, UpstreamExchange connection) except -1:
        """The head has been sent on `connection`: send there what is still to come."""
        self._connection = connection
        if self.all_sent:
            self._give_place_back()
            return 0
        self._since, self._since_received = monotonic(), self._content.received
        self._exchange.context.pressure.watch_sender(self._fetch)
        if self.head_first():
            self._limit(CONTINUE_S, self._say_continue)
        else:
            self._exchange.downstream.expect_satisfied()
        if connection.is_write_paused():
            connection.on_drained(self.drained)
        return 0

    cdef object rate(self, double window):
        """See `Streaming.sending_rate`."""
        cdef double now = monotonic()
        cdef double since = self._since
        cdef long long came
        # While something waits to be sent, the origin is what is slow.
        if not since or self._content.finished or self._content.size or now - since < window:
            return None
        came, self._since_received = self._content.received - self._since_received, self._content.received
        self._since = now
        return came / (now - since)

    def drained(self):
        """The origin has taken what was sent."""
        self.pump()

    cdef int pump(self) except -1:
        """Send what has come, at the origin's pace."""
        cdef Content content = self._content
        cdef UpstreamExchange connection = self._connection
        if self.all_sent or connection is None:
            return 0
        if content.size and connection.is_write_paused():
            connection.on_drained(self.drained)
            return 0
        if content.size:
            connection.send(self._framed(self._take()))
        if content.received >= READY:
            self._give_place_back()
        if content.finished and not content.size:
            closing = self._closing()
            if closing:
                connection.send(closing)
            self.all_sent = True
            self._give_place_back()
            self._fetch.request_sent()
        return 0

    def _say_continue(self):
        """The app says nothing: the client is told to go on all the same."""
        self._timer = None
        self._exchange.downstream.expect_satisfied()

    cdef bint rewind(self) except -1:
        """Be ready to be sent again, from the first byte on; False when that is not kept."""
        self._connection = None
        self.all_sent = False
        self._stop_timer()
        return self._kept is not None

    cdef int answered(self) except -1:
        """The response's head is here: there is no second try."""
        self._kept = None
        return self._stop_timer()

    cdef int leave(self) except -1:
        """Nothing more is sent; a request that is not whole ends with its connection."""
        self._stop_timer()
        self._give_place_back()
        if self._connection is not None and not self.all_sent:
            self._connection.abort()
        self._connection = None
        self._content.on_change = None
        return 0

    cdef bytes _take(self):
        """What waits, kept as long as all is small."""
        cdef bytes part = self._content.take()
        if self._kept is not None and part:
            self._kept_bytes += len(part)
            if self._kept_bytes <= KEPT:
                self._kept.append(part)
            else:
                self._kept = None
        return part

    cdef bytes _framed(self, bytes part):
        return b"".join((chunk_head(len(part)), part, CHUNK_END)) if self._chunked else part

    cdef bytes _closing(self):
        """What ends the content."""
        return last_chunk(forwarding.safe_trailers(self._content.trailers)) if self._chunked else b""

    cdef int _limit(self, double seconds, callback) except -1:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)
        return 0

    cdef int _stop_timer(self) except -1:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return 0
