# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The pass lane: plain requests whose response is nobody else's business, on a kept connection, without an exchange.

    Lane: a whole plain GET, and its key is marked hit-for-miss
      │ a connection lies ready?  ✗ ───────────────────────────────▶ the long way, as any other request
      ▼
    Relay ── sent ── head ── storable after all? a switch? refused? ─▶ the long way from here: an Exchange takes over
               │       └── passed on; the content follows at the client's pace
               └── lost ── an Exchange takes over, which asks again where that is safe

A `Relay` stands where an exchange would, and has of one what passing on needs. It decides nothing that the long way would
decide otherwise: what goes to the origin is made by the same functions, and so are the verdict on the response and the
head that the client gets. A `Passage` is what there is to know of a route beforehand.
"""

cimport cython

from flyby.policy import Outcome, Reason, has_dot_segments, parse_cache_control, storable
from flyby.proxy import forwarding
from flyby.proxy._answer cimport Answer, refuses, relay_interim
from flyby.proxy._front cimport Front, Onward
from flyby.proxy._passing cimport changes, pass_on
from flyby.proxy._passing import status_field
from flyby.proxy._upstream_fields cimport upstream_fields
from flyby.proxy.ask import SHARED_LEFT_OUT as _SHARED_LEFT_OUT
from flyby.proxy.recording import record
from flyby.upstream._connection cimport Connection
from flyby.upstream._pool cimport Lease
from flyby.wire import HeadReader as NewHeadReader
from flyby.wire._fields cimport Fields
from flyby.wire._glance cimport Glance
from flyby.wire._head cimport HeadReader, RequestHead, ResponseHead
from flyby.wire._serialise cimport serialise_request

cdef object ERROR = Outcome.ERROR
cdef object MISS = Outcome.MISS
cdef object PASS = Outcome.PASS
cdef object HIT_FOR_MISS = Reason.HIT_FOR_MISS
cdef object NO_STORE = Reason.NO_STORE
cdef frozenset ABOUT_OTHERS = frozenset((304, 412, 416))


cdef bint _dotted(bytes path) except -1:
    """`has_dot_segments`, asked only where there may be one."""
    return (b"/." in path or b"%" in path or b"\\" in path) and has_dot_segments(path)


@cython.final
cdef class Passage(Onward):
    """One route, on which requests may be passed on at once; `take_up` makes an exchange of a relay."""

    def __init__(self, context, match, rules, limits, take_up):
        self.context = context
        self.match = match
        self.rules = rules
        self._limits = limits
        self._take_up = take_up
        self._backend = context.backends[match.backend]
        self._host = self._backend.settings.host
        self._reader = NewHeadReader(limits, "request")
        # What every request would have to look up.
        self._store = context.store
        self._clock = context.clock
        self._log = context.log
        self._count = context.metrics.count
        self._targeted = rules.targeted
        self._guard_paths = rules.points.guard_paths
        self._strip_tags = rules.strip_tags
        response_rules = match.route.response_headers
        self._response_rules = response_rules if changes(response_rules) else None

    cdef bint begin(
        self, Front client, const unsigned char *base, const Glance *seen, double now, long long now_ms
    ) except -1:
        """Send the request that was seen at `base`; False when no connection lies ready for it."""
        cdef RequestHead request
        cdef Relay relay
        cdef bytes host
        cdef bytes head
        cdef Connection connection
        cdef Lease lease = self._backend.lease_now()
        if lease is None:
            return False
        try:
            request = self._request(client, base, seen)
            authority = lease.origin.authority
            if self._host == "client" or (self._host == "origin" and not authority):
                host = request.host
            else:
                host = authority if self._host == "origin" else self._host.encode()
            relay = Relay.__new__(Relay)
            relay.passage = self
            relay.context = self.context
            relay.downstream = client
            relay.request = request
            relay.lease = lease
            relay.identity = forwarding.request_id(request)
            relay.started = now
            relay.request_ms = now_ms
            relay.first_byte_ms = -1
            relay.outcome = ERROR
            relay.since = self._store.mark()
            relay.stop = lease.discard
            peer = client.client
            port = forwarding.port_of(request.host, request.scheme, peer.server_port)
            fields = upstream_fields(
                request, request.fields, peer.address, port, relay.identity, host, now_ms, _SHARED_LEFT_OUT
            )
            head = serialise_request(request.method, request.path, fields)
        except BaseException:
            lease.discard()
            raise
        client.occupy(request, relay)
        self._backend.retries.earn()
        connection = <Connection>lease.connection
        connection.send(head)
        connection.expect(request.method, relay)
        return True

    cdef RequestHead _request(self, Front client, const unsigned char *base, const Glance *seen):
        """What a glance recognised is a head for the full parser too."""
        cdef HeadReader reader = self._reader
        try:
            reader._feed(base, seen.length)
            return reader.take_request(b"https" if client.secure else b"http")
        except BaseException:
            self._reader = NewHeadReader(self._limits, "request")
            raise


@cython.final
cdef class Relay:
    """One request that was passed on; the exchange of its connection, and the receiver of its response."""

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

    # ---- from the origin ---------------------------------------------------------------------------------------------

    cpdef interim(self, ResponseHead head):
        relay_interim(self.downstream, head)

    cpdef head(self, ResponseHead head):
        cdef Answer answer
        try:
            if head.status == 101 or (self.lease.connection.donated and refuses(head)):
                reason = None
            else:
                reason = self._refusal(head)
            if reason is not None:
                answer = Answer(self.lease, head, self.started, self.request_ms, self.passage._clock)
                self.first_byte_ms = answer.first_byte_ms
                if b"location" in head.fields or b"content-location" in head.fields:
                    forwarding.map_location(head.fields, self.request, self.lease.origin.authority)
                self.outcome = PASS
                self.reason = reason
                self.status = head.status
                status = status_field(MISS, HIT_FOR_MISS, head.status, False, reason._value_)
                pass_on(self, self.request, answer, status, self.passage._response_rules, self.passage._strip_tags)
                return
        except Exception as error:
            self.lease.discard()
            self.passage._take_up(self).broken(error)
            return
        self.passage._take_up(self).head(head)

    cpdef fail(self, error):
        self.passage._take_up(self).fail(error)

    cdef object _refusal(self, ResponseHead head):
        """Why the response is not stored; None when it is to be."""
        cdef Fields fields = head.fields
        cdef bytes path = self.request.path
        value = fields.combined(b"cache-control")
        if value is not None and head.status not in ABOUT_OTHERS and not self._targeted(fields):
            control = parse_cache_control(value)
            # Nothing that is asked before this can be a reason: a plain GET has neither content nor credentials.
            if control.no_store and not control.must_understand and not control.malformed:
                if not self.passage._guard_paths or not _dotted(path):
                    return NO_STORE
        now_ms = self.context.clock.wall_ms()
        plan = storable(
            self.request, head, request_ms=self.request_ms, response_ms=now_ms, rules=self.passage.rules
        )
        return plan if isinstance(plan, Reason) else None

    cdef bint _targeted(self, Fields fields) except -1:
        for name in self.passage._targeted:
            if name in fields:
                return True
        return False

    # ---- from the client ---------------------------------------------------------------------------------------------

    def client_lost(self):
        """The client has gone, and nobody else waits."""
        stop = self.stop
        self.stop = None
        if stop is not None:
            stop()
        self.finished()

    cpdef finished(self):
        """The response is sent, or cannot be: record it, once."""
        if not self._recorded:
            self._recorded = True
            if self.passage._log is None:
                self.passage._count(self.outcome._value_, "" if self.reason is None else self.reason._value_)
            else:
                record(self)
