# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""A request's way to an origin, up to the head of its response: what it waits for, and when it is sent again.

    WAITING ─ content, then a connection ─▶ ASKING ─ the head ─▶ `_answered`
       ▲                                      │
       └── elsewhere, or on a fresh one ──────┴─ lost, and not to be sent again ─▶ `_give_up`

`Fetch` is the rest: what becomes of the response, who wants it, and the ends. See `attempts` for what may be sent
again.
"""

from flyby.policy import EntryFlag, drop_unkeyed, validators_for
from flyby.proxy.fetching.attempts import Attempts, is_refusal, nobody
from flyby.proxy.fetching.request import CLIENT_CONDITIONS as _CLIENT_CONDITIONS
from flyby.proxy.fetching.request import may_share, request_head
from flyby.proxy.stored import hit, partial
from flyby.wire import BodyKind

from flyby.proxy.fetching._upload cimport Upload
from flyby.proxy.road._exchange cimport Exchange
from flyby.upstream._direct cimport Listener
from flyby.upstream._exchange cimport UpstreamExchange
from flyby.upstream._pool cimport Lease
from flyby.wire._head cimport ResponseHead

cdef object NONE = BodyKind.NONE
cdef unsigned int PARTIAL = int(EntryFlag.PARTIAL)


cdef class Ignored:
    """The sink of content that nobody needs."""

    def data(self, view):
        pass

    def end(self, trailers):
        pass

    def fail(self, error):
        pass


cdef class Asking(Listener):
    """Abstract: a subclass says what follows a head, and how a fetch ends."""

    cdef int _answered(self, ResponseHead head) except -1:
        """The final head is here, and is no agent's refusal."""
        raise TypeError("abstract")

    cdef int _give_up(self, error) except -1:
        """No origin answers."""
        raise TypeError("abstract")

    cdef int _abandon(self) except -1:
        """Nobody wants the response any more."""
        raise TypeError("abstract")

    # ---- the request -------------------------------------------------------------------------------------------------

    def begin(self):
        """Ask the origin as soon as there is something to send and something to send it on."""
        cdef Exchange exchange = self.exchange
        if exchange.seams is not None and exchange.seams.at_fetch(self):
            return
        backend = exchange.backend()
        backend.retries.earn()
        if self._purpose == TO_STORE and self.stale is None and may_share(exchange.request):
            self._part = partial.find(exchange)
        if self._purpose != TO_REFRESH and exchange.request.body is not NONE:
            self._upload = Upload(self, exchange)
            if not self._upload.ready():
                self._upload.begin()
                return
        self._acquire()

    def content_ready(self):
        """There is something to send."""
        if self.state == WAITING and self._wait is None:
            self.exchange.run_step(self._acquire_now)

    def content_failed(self, error):
        """The rest of the content will not come: the request is not whole, and the client is to blame."""
        cdef Exchange exchange = self.exchange
        cdef bint responded = self.state >= DONE
        cdef bint begun = exchange.downstream.begun
        self._abandon()
        if exchange.gone or responded:
            return
        if begun:
            exchange.downstream.abort()
        else:
            exchange.refuse(error)

    def request_sent(self):
        """The last byte of the request has been sent."""
        self._upstream.finish_request()
        if self.state == DONE:
            self._leave_upload()

    cdef object _tries(self):
        """What has been tried so far."""
        if self._attempts is None:
            self._attempts = Attempts(self.exchange.backend(), self.exchange.request.method)
        return self._attempts

    def _acquire_now(self):
        self._acquire()

    cdef int _acquire(self) except -1:
        cdef Lease lease = None
        backend = self.exchange.backend()
        attempts = self._tries()
        self.state = WAITING
        if not attempts.fresh and not attempts.tried:
            lease = backend.lease_now()
        if lease is not None:
            return self._ask(lease)
        self._wait = backend.want(self, attempts.fresh, attempts.tried)
        return 0

    cpdef leased(self, Lease lease):
        """The connection that was waited for."""
        self._wait = None
        if self.state != WAITING:
            lease.release()
        else:
            self.exchange.run_step(self._ask_on, lease)

    cpdef no_lease(self, error):
        """No connection is to be had."""
        self._wait = None
        if self.state == WAITING:
            self._give_up(error)

    def _ask_on(self, Lease lease):
        self._ask(lease)

    cdef int _ask(self, Lease lease) except -1:
        """Send the request, with what there is of its content."""
        cdef Exchange exchange = self.exchange
        cdef UpstreamExchange connection = <UpstreamExchange?>lease.connection
        cdef bytes data
        cdef bint head_first = self._upload is not None and self._upload.head_first()
        context = exchange.context
        self.lease = lease
        self._upstream = connection
        self.state = ASKING
        self._started = context.clock.monotonic()
        self.request_ms = context.clock.wall_ms()
        if context.store is not None:
            exchange.since = context.store.mark()
        upgrade = exchange.request.upgrade if self._purpose == TO_SWITCH else None
        try:
            data = request_head(exchange, self._fields(), lease.origin.authority, None, upgrade, head_first)
            if self._upload is not None:
                data += self._upload.first()
                connection.send(data, not self._upload.all_sent)
                self._upload.send_on(connection)
            else:
                connection.send(data)
        except BaseException:
            self._abandon()
            raise
        connection.expect(exchange.request.method, self)
        return 0

    cdef object _fields(self):
        """The fields of the request as it is sent: what is not in the key is dropped, the conditions are ours."""
        cdef Exchange exchange = self.exchange
        request = exchange.request
        if self._purpose == TO_FORWARD or self._purpose == TO_SWITCH:
            return request.fields
        fields = drop_unkeyed(request.fields)
        validating = self.stale is not None and not self._whole and not self.stale.flags & PARTIAL
        if (may_share(request) and not self._conditions) or validating or self._whole:
            for name in _CLIENT_CONDITIONS:
                fields.remove(name)
        if validating:
            for name, value in validators_for(hit.stored_fields(self.stale.head)):
                fields.set(name, value)
        if self._part is not None:
            for name, value in partial.lacking(exchange, self._part):
                fields.set(name, value)
        self.ranged = fields.get(b"range")
        return fields

    cdef bint _repeatable(self) except -1:
        """Whether the request can be sent again from its first byte on."""
        return self._upload is None or self._upload.rewind()

    # ---- what the origin says, until its final head ------------------------------------------------------------------

    cpdef interim(self, ResponseHead head):
        """Pass a 1xx on. 100 and 101 are each hop's own affair; other interim ones are the client's (RFC 9110 15.2)."""
        if self.fill is not None:
            self.fill.touch()
        if self._client is None:
            return
        if head.status == 100:
            self._client.expect_satisfied()
        elif head.status > 101:
            self._client.interim(head.status, head.reason, head.fields)

    cpdef head(self, ResponseHead head):
        """The final head is here."""
        self.exchange.run_step(self._head_came, head)

    def _head_came(self, ResponseHead head):
        try:
            if self.lease.donated and is_refusal(head):
                self._refused()
                return
            if self._upload is not None:
                self._upload.answered()
            self._answered(head)
        except BaseException:
            self._abandon()
            raise

    cdef int _refused(self) except -1:
        """An agent has handed the request back: another is asked."""
        backend = self.exchange.backend()
        if backend.donors is not None:
            backend.donors.refused(self.lease)
        lease = self.lease
        if self._upload is None or self._upload.all_sent:
            (<UpstreamExchange>lease.connection).stream(Ignored())
            lease.release()
        else:
            lease.discard()
        if not self._tries().spend_refusal(lease, self._repeatable()):
            return self._give_up(nobody())
        return self._acquire()

    def _lost(self, error):
        """The connection was lost before a head came: ask again where that is safe."""
        self.lease.observe(self.exchange.context.clock.monotonic() - self._started, True)
        self.lease.discard()
        if self._tries().spend(error, self.lease, self._repeatable()):
            self._acquire()
        else:
            self._give_up(error)

    cdef int _leave_upload(self) except -1:
        if self._upload is not None:
            self._upload.leave()
        return 0
