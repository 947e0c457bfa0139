# cython: language_level=3
# cython: boundscheck=False, wraparound=False, cdivision=True
"""The pass lane: plain requests whose response is nobody else's business, on a kept connection, from buffer to socket.

    Lane: a whole plain GET, and its key is marked hit-for-miss
      │ a connection lies ready?  ✗ ───────────────────────────────▶ the long way, as any other request
      ▼
    Relay ── its head, written from the read buffer, is sent
      │ a plain response, and why it is not stored shows at once?  ✗ ─▶ the long way from here: an Exchange takes over
      ▼
    head and content leave in one write, from the upstream's read buffer; the rest as it comes, at the client's pace

A `Relay` stands where an exchange would, and has of one what passing on needs. It decides nothing that the long way would
decide otherwise: what the origin is told (`_onward_head`), the verdict and the head that the client gets (`_verdict`)
are held against what they imitate by the tests. No `RequestHead` is made unless somebody wants one: an exchange
that takes over, or a log that takes records. A `Passage` is what there is to know of a route beforehand.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memchr

from flyby.clock import SystemClock
from flyby.policy import Outcome, has_dot_segments
from flyby.proxy.routing import forwarding
from flyby.proxy.road.recording import record
from flyby.wire import BodyKind
from flyby.wire import HeadReader as NewHeadReader

from flyby.log._lines cimport COMBINED, CONSOLE, OFF, Lines, Served, Text
from flyby.proxy.fetching._answer cimport relay_interim
from flyby.proxy.road._front cimport Front, Onward
from flyby.proxy.routing._onward_head cimport Sayings, put_request, request_names, room_for
from flyby.proxy.road._outbox cimport Outbox, iovec
from flyby.proxy.fetching._passing cimport changes
from flyby.proxy.http1._responder cimport Responder
from flyby.proxy.routing._upstream_fields cimport fresh_identity
from flyby.proxy.fetching._verdict cimport Verdict, Verdicts
from flyby.store._atomic cimport load64
from flyby.store._store cimport Store
from flyby.upstream._direct cimport DirectConnection, Listener
from flyby.upstream._pool cimport Lease, Pool, moment
from flyby.wire._glance cimport Glance, Span
from flyby.wire._head cimport HeadReader, RequestHead, ResponseHead
from flyby.wire._names cimport NameTable
from flyby.wire._plain cimport Plain

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *time)
    int CLOCK_REALTIME

cdef enum:
    OUT = 131_072     # bytes of the longest head that is written here
    MOST_ADDED = 512  # bytes of what this edge adds to a response's head

cdef char HEAD_OUT[OUT]  # a head on its way to the socket; nothing of it outlives the call
cdef NameTable NAMES = request_names()

cdef object ERROR = Outcome.ERROR
cdef object PASS = Outcome.PASS
cdef object CHUNKED = BodyKind.CHUNKED
cdef object LENGTH = BodyKind.LENGTH


cdef bint dotted(const unsigned char *path, Py_ssize_t length) except -1:
    """`has_dot_segments`, asked only where there may be one."""
    cdef Py_ssize_t at
    cdef bint doubtful = memchr(path, c"%", length) != NULL or memchr(path, c"\\", length) != NULL
    for at in range(length - 1):
        doubtful = doubtful or (path[at] == c"/" and path[at + 1] == c".")
    return doubtful and has_dot_segments(PyBytes_FromStringAndSize(<const char *>path, length))


@cython.final
cdef class Passage(Onward):
    """One route, on which requests may be passed on at once; `take_up` makes an exchange of a relay."""

    def __init__(self, context, match, rules, limits, log, take_up):
        cdef Store store = context.store
        self.context = context
        self.match = match
        self.rules = rules
        self._limits = limits
        self._take_up = take_up
        self._backend = context.backends[match.backend]
        self._host = self._backend.settings.host
        self._given_host = self._host.encode()
        # What every request would have to look up.
        self._store = store._attachment
        self._clock = context.clock
        self._systems = type(context.clock) is SystemClock
        self._logged = context.log is not None
        self._access = log
        self._lines = None if log is None else log.lines
        self._idle_s = context.config.server.timeouts.idle_s
        self._guard_paths = rules.points.guard_paths
        self._server_port = -1
        if not changes(match.route.response_headers):
            self._verdicts = Verdicts(rules, limits, context.metrics)

    cdef double _now(self) except -1:
        return moment(self._clock, self._systems)

    cdef long long _wall_ms(self) except -1:
        cdef timespec time
        if not self._systems:
            return self._clock.wall_ms()
        clock_gettime(CLOCK_REALTIME, &time)
        return time.tv_sec * 1000 + time.tv_nsec // 1_000_000

    cdef Lease _lease(self, double now):
        """A connection that lies ready."""
        cdef Pool pool
        cdef Lease lease
        backend = self._backend
        if backend.donors is not None or backend.only is None or backend.sweeper is None:
            return backend.lease_now()
        pool = <Pool>backend.only
        lease = pool.take_at(now)
        if lease is not None:
            pool.member.in_flight += 1
        return lease

    cdef bint begin(
        self, Front client, const unsigned char *base, const Glance *seen, double now, long long now_ms
    ) except -1:
        """Send the request that was seen at `base`; False when no connection lies ready for it."""
        cdef Relay relay
        cdef Sayings says
        cdef bytes host
        cdef const unsigned char *colon
        cdef bytes identity
        cdef Lease lease = self._lease(now)
        if lease is None:
            return False
        try:
            if seen.request_id.length:
                identity = forwarding.identity(
                    PyBytes_FromStringAndSize(<const char *>base + seen.request_id.start, seen.request_id.length)
                )
            else:
                identity = fresh_identity()
            host = None
            if self._host == "origin":
                host = lease.origin.authority
            elif self._host != "client":
                host = self._given_host
            says.host = text_of(host) if host else text_at(base, seen.host)
            says.address = text_of(client.address)
            says.scheme.start = <const unsigned char *>("https" if client.secure else "http")
            says.scheme.length = 4 + client.secure
            says.identity = text_of(identity)
            says.now_ms = now_ms
            colon = <const unsigned char *>memchr(base + seen.host.start, c":", seen.host.length)
            if colon != NULL:
                says.port.start = colon + 1
                says.port.length = base + seen.host.start + seen.host.length - says.port.start
            else:
                peer = client.client
                if <int>peer.server_port * 2 + client.secure != self._server_port:
                    self._port = forwarding.port_of(b"", b"https" if client.secure else b"http", peer.server_port)
                    self._server_port = <int>peer.server_port * 2 + client.secure
                says.port = text_of(self._port)
            if room_for(seen, &says) > OUT:
                lease.release()
                return False
            relay = Relay.__new__(Relay)
            relay.passage = self
            relay._client = <Responder?>client
            relay._connection = <DirectConnection?>lease.connection
            relay.lease = lease
            relay.identity = identity
            relay.started = now
            relay.request_ms = now_ms
            relay._elapsed = -1
            relay.since = load64(&self._store.m.header.epoch)
            relay._text = PyBytes_FromStringAndSize(<const char *>base, seen.length)
            relay._target = seen.target
            relay._host = seen.host
            relay._user_agent = seen.user_agent
            relay._referer = seen.referer
            relay._plain = self._verdicts is not None and not (
                self._guard_paths and dotted(base + seen.target.start, seen.target.length)
            )
        except BaseException:
            lease.discard()
            raise
        relay._client.engage(relay, True)
        self._backend.retries.earn()
        relay._connection.ask(
            HEAD_OUT, put_request(HEAD_OUT, base, seen, NAMES, &says), b"GET", relay, now if self._systems else -1.0
        )
        return True


@cython.final
@cython.freelist(64)
cdef class Relay(Listener):
    """One request that was passed on; the exchange of its connection, and the receiver and sink of its response."""

    @property
    def context(self):
        return self.passage.context

    @property
    def match(self):
        """The route, but for the path."""
        return self.passage.match

    @property
    def rules(self):
        return self.passage.rules

    @property
    def backend_name(self):
        return self.passage.match.backend

    @property
    def downstream(self):
        return self._client

    @property
    def request(self):
        """What a glance recognised is a head for the full parser too."""
        cdef HeadReader reader
        if self._request is None:
            reader = NewHeadReader(self.passage._limits, "request")
            reader._feed(<const unsigned char *>PyBytes_AS_STRING(self._text), PyBytes_GET_SIZE(self._text))
            self._request = reader.take_request(b"https" if self._client.secure else b"http")
        return self._request

    @property
    def outcome(self):
        return ERROR if self._verdict is None else PASS

    @property
    def reason(self):
        return None if self._verdict is None else self._verdict.reason

    @property
    def first_byte_ms(self):
        return -1 if self._elapsed < 0 else <long long>(self._elapsed * 1000 + 0.5)

    # ---- a response that is not plain --------------------------------------------------------------------------------

    cdef object _long_way(self):
        """What goes on in this relay's place."""
        self._client._request = self.request
        return self.passage._take_up(self)

    cpdef interim(self, ResponseHead head):
        self._client._request = self.request
        relay_interim(self._client, head)

    cpdef head(self, ResponseHead head):
        self._long_way().head(head)

    cpdef fail(self, error):
        if self._verdict is None:
            self._long_way().fail(error)
            return
        self.lease.discard()
        self._client.abort()

    # ---- a plain one -------------------------------------------------------------------------------------------------

    cdef Py_ssize_t recognise(self, const unsigned char *base, Py_ssize_t size, long long *content) except -1:
        cdef Plain seen
        cdef Verdict verdict
        cdef Passage passage = self.passage
        if not self._plain or not passage._verdicts.glance(base, size, &seen):
            return 0
        if seen.length + 2 * seen.count + MOST_ADDED > OUT:
            return 0
        verdict = passage._verdicts.judge(base, &seen)
        if verdict is None:
            return 0
        content[0] = seen.content
        return self._begin(base, &seen, verdict, passage._now())

    cdef Py_ssize_t _begin(self, const unsigned char *base, Plain *seen, Verdict verdict, double now) except -1:
        """It is passed on: write its head. The length of the head that came."""
        cdef Responder client = self._client
        cdef Passage passage = self.passage
        cdef Py_ssize_t length
        cdef bytes connection
        self._elapsed = now - self.started
        self.lease.answered(self._elapsed, now)
        length = passage._verdicts.put_response(HEAD_OUT, base, seen, verdict, passage._wall_ms())
        self._verdict = verdict
        self.status = seen.status
        client.begun = True
        client._framing = CHUNKED if seen.content < 0 else LENGTH
        if client._lane.closed or not client._keep_alive:
            client._keep_alive = False
            connection = b"Connection: close\r\n\r\n"
        else:
            connection = b"\r\n"
        for byte in connection:
            HEAD_OUT[length] = <char>byte
            length += 1
        self._held = length
        return seen.length

    cdef int begin(self) except -1:
        """Let chunks flow: they are made anew, so they take the way that all take."""
        self._client._outbox.hold(PyBytes_FromStringAndSize(HEAD_OUT, self._held))
        self._held = 0
        self._client.on_writable((<object>self._connection).resume_reading)
        self._connection.stream(self)
        self._client.flush()
        return 0

    cpdef data(self, view):
        self._client.data(view)
        if self._client.paused:
            self._connection.pause_reading()

    cpdef end(self, trailers):
        self.lease.release()
        if trailers is not None:
            self._client._request = self.request
        self._client.end(None if trailers is None else forwarding.safe_trailers(trailers))

    cdef int part(self, const unsigned char *base, Py_ssize_t size) except -1:
        cdef iovec parts[2]
        cdef int count = 0
        cdef size_t total = self._held + size
        if self._held:
            parts[0].iov_base = HEAD_OUT
            parts[0].iov_len = self._held
            count = 1
            self._held = 0
        if size:
            parts[count].iov_base = <void *>base
            parts[count].iov_len = size
            count += 1
        return self._write(parts, count, total)

    cdef int _write(self, iovec *parts, int count, size_t total) except -1:
        """To the client's socket, or behind what waits for it; a client that falls behind holds the origin."""
        cdef Responder client = self._client
        cdef Outbox outbox = client._outbox
        cdef int64_t done = 0
        cdef list rest
        cdef int number
        if client._closing or not total or client._transport.is_closing():
            return 0
        outbox.sent += total
        if outbox._fd >= 0 and outbox.clear_way():
            done = outbox.gather(parts, count, total)
            if done == <int64_t>total or done < 0:
                return 0
        rest = []
        for number in range(count):
            rest.append(PyBytes_FromStringAndSize(<const char *>parts[number].iov_base, parts[number].iov_len))
        outbox._queued = True
        client._transport.write(b"".join(rest)[done:])
        if client.paused:
            client._on_writable = (<object>self._connection).resume_reading
            self._connection.pause_reading()
        return 0

    cdef int ended(self) except -1:
        """The whole response is handed over."""
        cdef Responder client = self._client
        cdef double now = self.passage._now()
        self.lease.returned(now)
        client._exchange = client._on_writable = None
        self._record(now)
        return client.go_on(now + self.passage._idle_s if self.passage._idle_s else 0.0)

    # ---- the client and the record -----------------------------------------------------------------------------------

    def client_lost(self):
        """The client has gone, and nobody else waits."""
        self.lease.discard()
        self.finished()

    cpdef finished(self):
        """The response is sent, or cannot be: record it, once."""
        self._record(self.passage._now())

    cdef int _record(self, double now) except -1:
        cdef Passage passage = self.passage
        cdef Lines lines = passage._lines
        cdef const unsigned char *base = <const unsigned char *>PyBytes_AS_STRING(self._text)
        cdef Served served
        if self._recorded:
            return 0
        self._recorded = True
        if self._verdict is None or (passage._logged and (lines is None or lines.style > COMBINED)):
            record(self)
            return 0
        self._verdict.count.number += 1
        if not passage._logged or lines.style == OFF:
            return 0
        served.time_ms = passage._wall_ms()
        served.duration_us = <int64_t>((now - self.started) * 1e6)
        served.sent = self._client._outbox.sent
        served.status = self.status
        served.method.start = <const unsigned char *>"GET"
        served.method.length = 3
        served.host = text_at(base, self._host)
        served.path = text_at(base, self._target)
        served.client = text_of(self._client.address)
        served.user_agent = text_at(base, self._user_agent)
        served.referer = text_at(base, self._referer)
        lines.line(&served, self._verdict.column, self._verdict.tail)
        if lines.urgent():
            passage._access.added()
        return 0


cdef inline Text text_at(const unsigned char *base, Span span) noexcept nogil:
    cdef Text text
    text.start = base + span.start
    text.length = span.length
    return text


cdef inline Text text_of(bytes value) noexcept:
    cdef Text text
    text.start = <const unsigned char *>PyBytes_AS_STRING(value)
    text.length = PyBytes_GET_SIZE(value)
    return text
