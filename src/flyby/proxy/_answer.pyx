# cython: language_level=3
"""An origin's response on its way, and the request that it answers while that has no Task of its own.

    Asking (a `Receiver` of upstream)  ── head ──▶  Answer  ── stream ──▶  one client (a `Sink` of upstream)
                                       └─ fail ──▶  again, in a coroutine, where that is safe; else an error page

An `Answer` is what every request to an origin ends in: the lease on its connection, the head, the times. It is also
the sink that leads the content to one client, at that client's pace. `Asking` is a request on a kept connection that
waits for nothing but its answer: the loop calls it, and what is done then is `road`'s affair (`miss`).
"""

cimport cython

from flyby.policy import format_http_date
from flyby.proxy.forwarding import safe_trailers
from flyby.wire._head cimport ResponseHead

FAILURES = frozenset((502, 503, 504))  # what an origin says that is not there
cdef frozenset _FAILURES = FAILURES


@cython.final
cdef class Answer:
    """A response whose head is here and whose content waits on `lease.connection`. `started` is when the request was
    sent, on the monotonic clock; telling the lease how the origin did is part of being made.
    """

    def __init__(self, Lease lease not None, ResponseHead head not None, double started, long long request_ms, clock, sender=None):
        cdef double elapsed = <double>clock.monotonic() - started
        self.lease = lease
        self.head = head
        self.request_ms = request_ms
        self.response_ms = clock.wall_ms()
        self.first_byte_ms = <long long>(elapsed * 1000 + 0.5)
        self.sender = sender
        lease.observe(elapsed, head.status in _FAILURES)
        if not head.fields.get(b"date"):
            # RFC 9110 6.6.1: a recipient that keeps a response without a Date gives it one.
            head.fields.set(b"Date", format_http_date(self.response_ms // 1000))

    cpdef finish(self):
        """The content has wholly arrived: give the connection back, unless the request is still being sent on it."""
        if self.sender is not None and not self.sender.done():
            self.sender.cancel()
            self.lease.discard()
        else:
            self.lease.release()

    cpdef discard(self):
        """Break the response off."""
        if self.sender is not None and not self.sender.done():
            self.sender.cancel()
        self.lease.discard()

    # ---- the sink that leads to one client ---------------------------------------------------------------------------

    def to_client(self, exchange):
        """This, as the sink that leads the content to the client of `exchange`."""
        self._exchange = exchange
        self._downstream = exchange.downstream
        self._connection = self.lease.connection
        exchange.stop = self.discard
        self._downstream.on_writable((<object>self._connection).resume_reading)
        return self

    cpdef data(self, view):
        self._downstream.data(view)
        if self._downstream.paused:
            self._connection.pause_reading()

    cpdef end(self, trailers):
        self.finish()
        self._exchange.stop = None
        self._downstream.end(None if trailers is None else safe_trailers(trailers))

    cpdef fail(self, error):
        self.discard()
        self._exchange.stop = None
        self._downstream.abort()


@cython.final
cdef class Asking:
    """One request that has been sent, without content, on `lease.connection`; just now, unless the times are given."""

    def __init__(self, exchange, fill, why, lease, road, double started=-1.0, long long request_ms=0):
        clock = exchange.context.clock
        self.exchange = exchange
        self.fill = fill
        self.why = why
        self.lease = lease
        self._road = road
        self._clock = clock
        self._started = clock.monotonic() if started < 0 else started
        self._request_ms = clock.wall_ms() if started < 0 else request_ms

    cpdef interim(self, ResponseHead head):
        relay_interim(self.exchange.downstream, head)

    cpdef head(self, ResponseHead head):
        self.exchange.stop = None
        if self.lease.connection.donated and refuses(head):
            self.exchange.told(self._road.refused, self)
            return
        answer = Answer(self.lease, head, self._started, self._request_ms, self._clock)
        self.exchange.told(self._road.answered, self, answer)

    cpdef broken(self, error):
        """A fault of our own came in between."""
        self.exchange.told(_raise, error)

    cpdef fail(self, error):
        self.exchange.stop = None
        self.lease.observe(<double>self._clock.monotonic() - self._started, True)
        self.lease.discard()
        self.exchange.told(self._road.failed, self, error)


cpdef relay_interim(downstream, ResponseHead head):
    """Pass a 1xx on. 100 and 101 are each hop's own affair; what else is interim is the client's (RFC 9110 15.2)."""
    if head.status > 101:
        downstream.interim(head.status, head.reason, head.fields)


cpdef bint refuses(ResponseHead head) except -1:
    """Whether this is an agent's word that it could not pass the request on."""
    return head.status == 503 and b"flyby-refused" in head.fields


def _raise(error):
    raise error
