# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The content of a response on its way: to the client, into the store, or both.

    CLIENT   as it comes; a client that is behind holds the origin
    STORE    into the Fill; the client is given each part as it comes while it keeps up, and else reads the Fill
    HELD     the Fill is full: the origin waits until the client has read it, then CLIENT
    WINDOW   the Fill is full, and followers read it too: it becomes a window, which its slowest reader holds

The Fill never holds the origin up but as a window: its readers wait for themselves.
"""

import asyncio

from flyby.policy import Reason
from flyby.proxy.fetching import storing
from flyby.proxy.fetching.ended import Ended
from flyby.proxy.routing import forwarding

from flyby.clock cimport monotonic
from flyby.proxy.fetching._asking cimport DONE, FAILED, STREAMING, Asking
from flyby.proxy.road._downstream cimport Downstream
from flyby.proxy.road._exchange cimport Exchange
from flyby.store._fill cimport Fill
from flyby.store._layout cimport FILL_COMPLETE
from flyby.upstream._exchange cimport UpstreamExchange

cdef enum:
    PIECE = 65_536  # bytes handed to the client at a time


cdef class Streaming(Asking):
    """Abstract: `Fetch` says where the content goes, and how a fetch ends."""

    cdef int _to_client(self) except -1:
        self._way = CLIENT
        self._client.on_writable((<object>self._upstream).resume_reading)
        return 0

    cdef int _fell_behind(self) except -1:
        """The client reads more slowly than the origin sends: its rate counts, anew as long as that is high enough."""
        cdef double now = monotonic()
        cdef long long taken = self._client._outbox.taken()
        cdef long long least
        if not self._behind:
            self.exchange.context.pressure.watch_reader(self)
        else:
            least = self.exchange.context.config.server.timeouts.read_rate
            if taken - self._behind_taken < least * (now - self._behind):
                return 0
        self._behind, self._behind_taken = now, taken
        return 0

    def reading_rate(self, double window):
        """Bytes a second that the client has taken while it was behind.

        None where it is not, where what it gets is stored, and before `window` s are over.
        """
        cdef double elapsed = monotonic() - self._behind
        if self.state != STREAMING or self.fill is not None or self._client is None or not self._client.paused:
            return None
        if not self._behind or elapsed < window:
            return None
        return (self._client._outbox.taken() - self._behind_taken) / elapsed

    def sending_rate(self, double window):
        """Bytes a second of content that the client has sent since a connection was taken, or since this was last told.

        None once the content is whole, where the origin is what is slow, after the response has begun, and before
        `window` s are over.
        """
        if self._upload is None or self._client is None or self._client.begun:
            return None
        return self._upload.rate(window)

    cpdef data(self, view):
        cdef Downstream client = self._client
        if self._half_closed:
            self._heard = monotonic()
        if self._way == CLIENT:
            client.data(view)
            if client.paused:
                self._upstream.pause_reading()
                self._fell_behind()
        elif self._way == STORE:
            if not self.fill.write(view):
                self._outgrow(view)
                return
            if client is not None and self._offset == self._written and self._limit < 0 and not client.paused:
                self._offset += len(view)
                self._written += len(view)
                client.data(view)
            else:
                self._written += len(view)
                self._read_along()
        elif self._way == HELD:
            self._overflow += bytes(view)
        elif self._way == WINDOW:
            self._overflow += bytes(view)
            self._fill_window()
            self._read_along()

    def _client_ready(self):
        """The client has caught up."""
        self._read_along()

    cdef int _read_along(self) except -1:
        """Give the client what the Fill holds beyond its offset, at its pace; and the end, when it has read all."""
        cdef Downstream client = self._client
        cdef long long end
        if client is None or self.fill is None:
            return 0
        while not client.paused and self._client is client:
            end = self.fill.available
            if self._limit >= 0:
                end = min(end, self._limit)
            if self._offset >= end:
                break
            view = (self._reader or self.fill).read(self._offset, min(<long long>PIECE, end - self._offset))
            self._offset += len(view)
            client.data(view)
        if self._client is not client:
            return 0
        if self._way == HELD and self._offset == <long long>self.fill.available:
            return self._read_on()
        if self._offset == self._limit or (
            self.fill.state == FILL_COMPLETE and self._offset == <long long>self.fill.available
        ):
            self._client = None
            client.on_writable(None)
            self._let_reader_go()
            client.end()
            if self.state == DONE and self._overflow is None:
                self._let_fill_go(Ended.LOST)
        return 0

    cdef int _outgrow(self, view) except -1:
        """The store has no room for the rest: whoever has begun to read is served on from the origin's stream."""
        cdef Exchange exchange = self.exchange
        # A response that was passed on as it came has no parsed head.
        status = exchange.status if self.response is None else self.response.status
        storing.mark(exchange, exchange.context.store, Reason.TOO_LARGE, status)
        exchange.reason = Reason.TOO_LARGE
        if self._has_followers() and self.fill.outgrow():
            self._way = WINDOW
            if self._client is not None:
                self._reader = self.fill.follow()
                self._reader.passed(self._offset)
            self.fill.subscribe(self.changed)
            self._overflow = bytes(view)
            self._fill_window()
            return self._read_along()
        if self._client is None:
            return self._abandon()
        self._way = HELD
        self._overflow = bytes(view)
        self._upstream.pause_reading()
        self.fill.abort(Ended.UNSTORABLE)
        return self._read_along()

    cdef int _fill_window(self) except -1:
        """Give the window what it takes; the origin waits for its slowest reader."""
        cdef UpstreamExchange connection = self._upstream
        cdef bytes waiting = self._overflow
        # `write_some` calls everybody who watches the Fill, `changed` too, which must not find these bytes again.
        self._overflow = b""
        waiting = waiting[self.fill.write_some(waiting) :]
        if self.state == FAILED:
            return 0
        self._overflow = waiting
        if self._overflow:
            if self.state == STREAMING:
                connection.pause_reading()
        elif self.state == STREAMING:
            connection.resume_reading()
        else:
            self.fill.finish()
            self._overflow = None
            if self._client is None:
                self._let_fill_go(Ended.LOST)
        return 0

    cdef int _read_on(self) except -1:
        """The client has read what the Fill held: it gets the rest as it comes."""
        rest, self._overflow = self._overflow, None
        self.fill.release()
        self.fill = None
        self._client.data(rest)
        if self.state == DONE:
            client, self._client = self._client, None
            client.on_writable(None)
            client.end()
            return 0
        self._to_client()
        if not self._client.paused:
            self._upstream.resume_reading()
        return 0

    cpdef end(self, trailers):
        """The content has wholly arrived."""
        self._content_over(trailers)

    cdef int _content_over(self, trailers) except -1:
        cdef Downstream client = self._client
        self.state = DONE
        self._stop_timer()
        # Where the response came first, the pool has the connection when the rest of the request has been sent.
        self.lease.release()
        if self._upload is None or self._upload.all_sent:
            self._leave_upload()
        if self._way == STORE:
            if self._joined is None or not len(self._joined.after) or self.fill.write(self._joined.after):
                self.fill.commit()
            if client is None:
                self._let_fill_go(Ended.LOST)
            else:
                self._read_along()
        elif self._way == WINDOW:
            self._fill_window()
            self._read_along()
        elif self._way == CLIENT:
            self._client = None
            client.on_writable(None)
            client.end(None if trailers is None else forwarding.safe_trailers(trailers))
        return 0

    # ---- the Fill ----------------------------------------------------------------------------------------------------

    cdef bint _has_followers(self) except -1:
        return self.fill is not None and self.fill.readers > 0

    cdef int _let_reader_go(self) except -1:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.release()
        return 0

    cdef int _let_fill_go(self, int ended) except -1:
        """End the Fill, if there is one that has not ended; its followers learn how."""
        cdef Fill fill = self.fill
        self.fill = None
        self._let_reader_go()
        if fill is not None:
            if fill.owner and fill.state < FILL_COMPLETE:
                fill.abort(ended)
            fill.release()
        return 0

    cdef int _settled(self) except -1:
        """Nothing more is to come of the origin."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.left()
        self._stop_timer()
        self._leave_upload()
        if self.state < DONE:
            self.state = DONE
        return 0

    def _set_timer(self, double seconds, callback):
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)

    cdef int _stop_timer(self) except -1:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return 0
