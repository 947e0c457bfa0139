# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""One request to an origin, from the wish to the last byte: a state table that owns all that the request takes.

    WAITING ─ a connection ─▶ ASKING ─ the head ─▶ STREAMING ─ the last byte ─▶ DONE
       │ ▲                      │                      │
       │ └── again, elsewhere ──┤                      │
       └──────── no origin ─────┴──── broken off ──────┴──────────────────────▶ FAILED

What it owns: the lease on the connection, the Fill, a place in the backend's early share, one timer, its audience. Each
is given back on every way out, and the ways out are four: `_content_over`, `_give_up`, `_abandon` and, where what is
stored answers, `_settled`.

Its audience: the client that asked, the followers of the Fill, and the store once it has begun to keep the response.

    who leaves                  before the head            while content flows
    the client                  ends, unless followed      ends, unless it fills the store
    the client, half-closed     waits for first_byte_s     ends when the origin was silent for half_closed_s,
                                                           or when another request waits for the connection
    the last follower           ends, if the client left   goes on for the store; ends, if it has outgrown that
    the origin                  again, else an error       the client's response is cut off

Everything that must be waited for calls back: content, a connection, the response, the client, the clock. What becomes
of the response is `verdict`'s to say; this file carries it out.
"""

import asyncio

cimport cython

from flyby.errors import UpstreamError, WireError
from flyby.policy import EntryFlag, Outcome, Plan, Reason, drop_unkeyed, evaluate, format_http_date, validators_for
from flyby.proxy.fetching import storing
from flyby.proxy.fetching.attempts import FAILURES, Attempts, is_refusal, nobody
from flyby.proxy.fetching.ended import Ended
from flyby.proxy.fetching.request import CLIENT_CONDITIONS, may_share, request_head
from flyby.proxy.fetching._response import content_length, response_head, status_field
from flyby.proxy.fetching.verdict import Action, before_policy, by_policy
from flyby.proxy.routing import forwarding
from flyby.proxy.stored import hit, lookup, partial, renewal
from flyby.wire import REASONS, BodyKind

from flyby.clock cimport monotonic
from flyby.proxy.fetching._upload cimport Upload
from flyby.proxy.road._downstream cimport Downstream
from flyby.proxy.road._exchange cimport Exchange
from flyby.store._entry cimport Entry
from flyby.store._fill cimport Fill
from flyby.store._layout cimport FILL_COMPLETE
from flyby.upstream._exchange cimport UpstreamExchange
from flyby.upstream._direct cimport Listener
from flyby.upstream._pool cimport Lease
from flyby.wire._head cimport RequestHead, ResponseHead

cdef enum:
    PIECE = 65_536   # bytes handed to the client at a time
    DROPPED = 65_536 # bytes of content that nobody needs and that are read rather than the connection be closed

cdef object NONE = BodyKind.NONE
cdef object LENGTH = BodyKind.LENGTH
cdef object CLOSE = BodyKind.CLOSE
cdef object CHUNKED = BodyKind.CHUNKED
cdef object HIT = Outcome.HIT
cdef object MISS = Outcome.MISS
cdef object PASS = Outcome.PASS
cdef object STALE = Outcome.STALE
cdef object REVALIDATED = Outcome.REVALIDATED
cdef object PARTIAL = int(EntryFlag.PARTIAL)
cdef tuple NAMES = ("waiting", "asking", "streaming", "done", "failed")


cdef class Ignored:
    """The sink of content that nobody needs."""

    def data(self, view):
        pass

    def end(self, trailers):
        pass

    def fail(self, error):
        pass


cdef class Fetch(Listener):
    """See the module's text. `begin` begins; an error in a later step becomes the response."""

    def __init__(
        self, Exchange exchange not None, why, *, Fill fill=None, Entry stale=None, int purpose=0, bint conditions=False,
        on_switch=None,
    ):
        self.exchange = exchange
        self.why = why
        self.fill = fill
        self.stale = stale
        self._purpose = <Purpose>purpose
        self._conditions = conditions
        self._on_switch = on_switch
        self._limit = -1
        if self._purpose != TO_REFRESH:
            self._client = exchange.downstream
            exchange.source = self

    def __repr__(self):
        return f"<Fetch {NAMES[self.state]} of {self.exchange.path!r}, {self.audience}>"

    @property
    def audience(self):
        """Who wants the response, in words."""
        names = []
        if self._client is not None:
            names.append("half-closed client" if self._half_closed else "client")
        if self.state < DONE and self._has_followers():
            names.append("followers")
        if self._way == STORE:
            names.append("store")
        return "for " + (" and ".join(names) or "nobody")

    @property
    def over(self):
        """Whether nothing is owned any more."""
        return self.state >= DONE

    cdef bint _has_followers(self) except -1:
        return self.fill is not None and self.fill.readers > 0

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
            data = request_head(exchange, self._fields(), lease.origin.authority, None, upgrade)
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
        validating = self.stale is not None and not self.stale.flags & <unsigned int>PARTIAL
        if (may_share(request) and not self._conditions) or validating:
            for name in CLIENT_CONDITIONS:
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

    # ---- the response's head -----------------------------------------------------------------------------------------

    cpdef interim(self, ResponseHead head):
        """Pass a 1xx on. 100 and 101 are each hop's own affair; what else is interim is the client's (RFC 9110 15.2)."""
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
        self.exchange.run_step(self._answered_by, head)

    def _answered_by(self, ResponseHead head):
        try:
            self._answered(head)
        except BaseException:
            self._abandon()
            raise

    cdef int _answered(self, ResponseHead head) except -1:
        cdef Exchange exchange = self.exchange
        cdef double elapsed
        if self.lease.donated and is_refusal(head):
            return self._refused()
        if self._upload is not None:
            self._upload.answered()
        clock = exchange.context.clock
        elapsed = clock.monotonic() - self._started
        self.response = head
        self.response_ms = clock.wall_ms()
        self.state = STREAMING
        exchange.first_byte_ms = <long long>(elapsed * 1000 + 0.5)
        self.lease.observe(elapsed, head.status in FAILURES)
        if not head.fields.get(b"date"):
            # RFC 9110 6.6.1: a recipient that keeps a response without a Date gives it one.
            head.fields.set(b"Date", format_http_date(self.response_ms // 1000))
        if head.status == 101:
            if self._on_switch is not None:
                self.state = DONE
                self._on_switch(self)
                return 0
            raise UpstreamError(502, "upgrade", "http_upgrade_failed", "the origin switched protocols unasked")
        forwarding.map_location(head.fields, exchange.request, self.lease.origin.authority)
        if head.status != 206:
            self.ranged = None
        if self._part is not None and not self._completes():
            # What is held and what came do not belong together: ask for the whole.
            self._part = None
            self.lease.discard()
            return self._acquire()
        if exchange.seams is not None:
            self.response, self._incoming = exchange.seams.at_response(self, head)
            if self.state >= DONE:
                return 0
        return self._decide()

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

    cdef bint _completes(self) except -1:
        """Whether the response to a request for the rest of a stored part can be used: the rest, or the whole."""
        if self.response.status == 206:
            joined = partial.join(self._part, self.response)
            return joined is not None and joined.held.complete
        return self.response.status != 416

    cdef int _decide(self) except -1:
        cdef Exchange exchange = self.exchange
        cdef ResponseHead head = self.response
        cdef Entry stale = self.stale
        request = exchange.request
        if self._purpose == TO_FORWARD or self._purpose == TO_SWITCH:
            return self._forward()
        stands_in = stale is not None and head.status >= 500 and hit.stale_allowed(exchange, stale, head.status)
        found = before_policy(head.status, stale is not None, stands_in)
        if found is None:
            plan = renewal.plan_for(exchange, self, head)
            if isinstance(plan, Plan) and b"range" in request.fields and head.status != 206:
                # RFC 9110 14.2: an origin that ignores Range has sent the whole; where it ends must be certain.
                if exchange.rules.points.guard_guesses and head.framing(request.method)[0] is CLOSE:
                    plan = Reason.PARTIAL
            found = by_policy(request, head.status, plan, self.why is Reason.TOO_LARGE)
        if found.action is Action.FRESHEN:
            return self._freshen()
        if found.action is Action.STAND_IN:
            return self._stand_in()
        if found.action is Action.STORE and self._store(found.plan):
            return 0
        reason = found.reason
        if found.action is Action.STORE:
            reason = Reason.TOO_LARGE if self._unstorable is None else self._unstorable
        return self._pass(reason, True)

    cdef int _forward(self) except -1:
        """Pass on, and drop what the request makes untrue (RFC 9111 4.4)."""
        exchange = self.exchange
        context = exchange.context
        renewal.invalidate(exchange, self.response)
        if exchange.request.method == b"POST" and context.store is not None and not exchange.match.route.cache.off:
            # RFC 9110 9.3.3: a POST's response that says where it can be had again serves later GETs.
            plan = renewal.plan_for(exchange, self, self.response)
            if isinstance(plan, Plan):
                lookup.find(exchange)
                # What has just been made untrue is what was stored before, not this.
                exchange.since = context.store.mark()
                if self._store(plan):
                    return 0
        return self._pass(None, False)

    # ---- what is done with it ----------------------------------------------------------------------------------------

    cdef int _freshen(self) except -1:
        """RFC 9111 4.3.4: the stored response is still right; its fields are brought up to date."""
        cdef Exchange exchange = self.exchange
        cdef Entry entry
        self._upstream.stream(Ignored())
        self.lease.release()
        entry = renewal.renew(exchange, exchange.context.store, self.stale, self)
        self._let_fill_go(Ended.REVALIDATED)
        self._settled()
        if self._client is not None:
            hit.serve(exchange, entry or self.stale, REVALIDATED, self.why, fwd_status=304)
        return 0

    cdef int _stand_in(self) except -1:
        """A failure of the origin is hidden by what is stored (RFC 5861 4)."""
        self.lease.discard()
        self._let_fill_go(Ended.REVALIDATED)
        self._settled()
        if self._client is not None:
            hit.serve(self.exchange, self.stale, STALE, Reason.ORIGIN_FAILED, fwd_status=self.response.status)
        return 0

    cdef bint _store(self, plan) except -1:
        """Begin to store, and let the client read along; False when that cannot be, `_unstorable` says why."""
        cdef Exchange exchange = self.exchange
        cdef ResponseHead head = self.response
        cdef long long length
        store = exchange.context.store
        kind, announced = head.framing(exchange.request.method)
        length = announced if kind is LENGTH else -1
        if self.fill is None:
            # Not one to be followed: under a key of its own nobody waits for it.
            self.fill = storing.claim_alone(exchange, store)
        stored = partial.find(exchange) if head.status == 206 else None
        self._joined = partial.join(stored, head) if stored is not None else None
        self._unstorable = Reason.TOO_LARGE
        if self.fill is not None:
            self._unstorable = storing.open_fill(self, self.fill, plan, length, self._joined)
        if self.fill is None or self._unstorable is not None:
            if self._joined is not None and b"range" not in exchange.request.fields:
                raise UpstreamError(503, "no-room", "proxy_internal_error", "the rest of a stored part cannot be stored")
            return False
        self._way = STORE
        self._written = self.fill.available  # the part that was held before
        if self._client is not None:
            exchange.note(MISS, self.why, head.status)
            self._begin_stored(plan)
        self._upstream.stream(self if self._incoming is None else self._incoming)
        if self._client is not None:
            self._client.flush()
        return True

    cdef int _begin_stored(self, plan) except -1:
        """Begin the client's response: what is stored, with the fields that are kept from later requests."""
        exchange = self.exchange
        client = self._client
        status = status_field(MISS, self.why, self.response.status, True)
        code = self.response.status
        fields = self.response.fields
        if self._joined is not None:
            fields, self._offset, self._limit, code = storing.joined_view(self, self._joined, plan)
            exchange.status = code
        verdict = evaluate(exchange.request, fields, code)
        if verdict is not None:
            self._client = None
            hit.send_verdict(exchange, verdict, fields, status)
            return 0
        if self._joined is None:
            client.begin_ready(response_head(exchange, self.response, status), self.fill.length, code)
        else:
            length = (self.fill.length if self._limit < 0 else self._limit) - self._offset
            fields.add(b"Cache-Status", status)
            client.begin(code, REASONS[code], fields, length)
        client.on_writable(self._client_ready)
        return 0

    cdef int _pass(self, reason, bint offered) except -1:
        """Lead the response to the client alone; `reason` is why it is not stored, `offered` that it might have been."""
        cdef Exchange exchange = self.exchange
        cdef ResponseHead head = self.response
        if offered:
            self._mark(reason)
            if exchange.request.method == b"HEAD":
                renewal.learn_from_head(exchange, exchange.context.store, self)
        if self._client is None:
            return self._abandon()
        if offered:
            exchange.note(PASS if reason is not None else MISS, reason or self.why, head.status)
            detail = reason.value if reason is not None else None
            status = status_field(MISS, self.why, head.status, False, detail)
            verdict = None
            if head.status == 200 and not self._conditions:
                verdict = evaluate(exchange.request, head.fields, 200)
            if verdict is not None:
                client, self._client = self._client, None
                self._way = NOWHERE
                hit.send_verdict(exchange, verdict, head.fields, status)
                return self._drop_content()
        else:
            exchange.note(PASS, self.why, head.status)
            status = status_field(PASS, self.why, head.status)
        return self._to_client_with(status)

    cdef int _drop_content(self) except -1:
        """Read what nobody needs, if it is little, so that the connection can be kept."""
        kind, length = self.response.framing(self.exchange.request.method)
        if kind is NONE or (kind is LENGTH and length <= DROPPED):
            self._upstream.stream(self)
            return 0
        return self._abandon()

    cdef int _to_client_with(self, bytes status) except -1:
        client = self._client
        exchange = self.exchange
        length = content_length(self.response, exchange.request.method)
        client.begin_ready(response_head(exchange, self.response, status), length, self.response.status)
        self._to_client()
        self._upstream.stream(self if self._incoming is None else self._incoming)
        client.flush()
        return 0

    cdef int _to_client(self) except -1:
        self._way = CLIENT
        self._client.on_writable((<object>self._upstream).resume_reading)
        return 0

    cdef int _mark(self, reason) except -1:
        """What is not for sharing: followers fetch for themselves, and a mark spares the next requests the wait."""
        cdef Exchange exchange = self.exchange
        cdef ResponseHead head = self.response
        store = exchange.context.store
        if self.fill is not None:
            self._let_fill_go(Ended.UNCACHEABLE)
            # A failure says nothing against what is stored: it stays, to be validated or served stale again.
            if exchange.request.method == b"GET" and (self.stale is None or head.status < 500):
                storing.mark(exchange, store, reason, head.status)
        elif self.stale is not None and head.status < 500 and exchange.request.method == b"GET" and head.status != 304:
            store.delete(exchange.claim_key)
        return 0

    # ---- its content -------------------------------------------------------------------------------------------------

    cpdef data(self, view):
        cdef Downstream client = self._client
        if self._half_closed:
            self._heard = monotonic()
        if self._way == CLIENT:
            client.data(view)
            if client.paused:
                self._upstream.pause_reading()
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
        if self._offset == self._limit or (self.fill.state == FILL_COMPLETE and self._offset == <long long>self.fill.available):
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
        storing.mark(exchange, exchange.context.store, Reason.TOO_LARGE, self.response.status)
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
        self._overflow = self._overflow[self.fill.write_some(self._overflow) :]
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

    # ---- ends --------------------------------------------------------------------------------------------------------

    cpdef fail(self, error):
        """The connection was lost, or a limit of time is reached: before the head, or in the content."""
        cdef Exchange exchange = self.exchange
        if self.state == ASKING:
            exchange.run_step(self._lost, error)
        elif self.state == STREAMING:
            self.lease.discard()
            self._let_fill_go(Ended.UPSTREAM)
            self._settled()
            self.state = FAILED
            if self._client is not None:
                self._client = None
                exchange.cut_off(error)

    def _lost(self, error):
        """The connection was lost before a head came: ask again where that is safe."""
        self.lease.observe(self.exchange.context.clock.monotonic() - self._started, True)
        self.lease.discard()
        if self._tries().spend(error, self.lease, self._repeatable()):
            self._acquire()
        else:
            self._give_up(error)

    cdef int _give_up(self, error) except -1:
        """No origin answers. What is stored stands in, else the client gets the error."""
        cdef Exchange exchange = self.exchange
        cdef Entry stale = self.stale
        self._let_fill_go(Ended.TIMEOUT if error.status == 504 else Ended.UPSTREAM)
        self._settled()
        self.state = FAILED
        if self._client is None:
            return 0
        self._client = None
        if stale is not None and hit.stale_allowed(exchange, stale, error.status):
            hit.serve(exchange, stale, STALE, Reason.ORIGIN_FAILED)
        else:
            exchange.fail(error)
        return 0

    def client_left(self):
        """The client has gone."""
        if self._client is not None:
            self._client.on_writable(None)
        self._client = None
        self._let_reader_go()
        if self.state == STREAMING and self._way == STORE:
            return
        if self._has_followers() and (self.state < STREAMING or self._way == WINDOW):
            if self._way != WINDOW:
                self.fill.subscribe(self.changed)
        elif self.state < DONE or self._way == WINDOW:
            self._abandon()
        else:
            self._let_fill_go(Ended.LOST)

    def client_ended(self):
        """The client has shut its side down: it may still read, or be gone."""
        if self.state >= DONE or self._client is None:
            return
        self._half_closed = True
        self._heard = monotonic()
        self.exchange.context.pressure.watch(self)
        if self.state == STREAMING:
            self._watch_silence()
        # Before the head, `first_byte_s` is the limit; `_answered` has nothing to add to it.

    def _watch_silence(self):
        self._set_timer(self.exchange.context.config.server.timeouts.half_closed_s, self._silent)

    def _silent(self):
        """Has the origin been silent while the client is half-closed? Then the client counts as gone."""
        cdef double limit = self.exchange.context.config.server.timeouts.half_closed_s
        self._timer = None
        if self.state != STREAMING or self._client is None:
            return
        left = self._heard + limit - monotonic()
        if left > 0:
            self._set_timer(left, self._silent)
        else:
            self.give_up_client()

    @property
    def silence(self):
        """Since when nothing came, for a half-closed client; None for others."""
        return self._heard if self._half_closed and self._client is not None and self.state < DONE else None

    def give_up_client(self):
        """Let the client count as gone: its connection is reset."""
        if self._client is not None:
            self._client.reset()
            self.exchange.client_lost()

    def changed(self):
        """The Fill has moved: a follower has come, read on, or gone."""
        if self.fill is None or self._purpose == TO_REFRESH:
            return
        if self._client is None and not self._has_followers() and (self.state < STREAMING or self._way == WINDOW):
            self._abandon()
        elif self._way == WINDOW and self._overflow:
            self._fill_window()
            self._read_along()

    def give_way(self):
        """A response is made here instead: the client is no longer this fetch's, and followers fetch for themselves."""
        self._client = None
        self._let_fill_go(Ended.UNCACHEABLE)
        self._abandon()

    cdef int _abandon(self) except -1:
        """Nobody wants the response any more."""
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
        if self.lease is not None:
            self.lease.discard()
        self._let_fill_go(Ended.LOST)
        self._settled()
        self.state = FAILED
        return 0

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

    cdef int _leave_upload(self) except -1:
        if self._upload is not None:
            self._upload.leave()
        return 0

    def _set_timer(self, double seconds, callback):
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)

    cdef int _stop_timer(self) except -1:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return 0
