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

from flyby.errors import UpstreamError
from flyby.policy import Outcome, Plan, Reason, evaluate, format_http_date, guessed
from flyby.proxy.fetching import storing
from flyby.proxy.fetching.attempts import FAILURES as _FAILURES
from flyby.proxy.fetching.ended import Ended
from flyby.proxy.fetching.forms import tell_of_refused_form
from flyby.proxy.fetching._response import content_length, response_head, status_field
from flyby.proxy.fetching.verdict import Action, before_policy, by_policy
from flyby.proxy.routing import forwarding
from flyby.proxy.stored import hit, lookup, partial, renewal
from flyby.wire import REASONS as _REASONS
from flyby.wire import BodyKind

from flyby.clock cimport monotonic
from flyby.proxy.fetching._asking cimport (
    ASKING, DONE, FAILED, STREAMING, TO_FORWARD, TO_REFRESH, TO_SWITCH, Ignored, Purpose,
)
from flyby.proxy.fetching._streaming cimport NOWHERE, STORE, WINDOW, Streaming
from flyby.proxy.road._exchange cimport Exchange
from flyby.store._entry cimport Entry
from flyby.store._fill cimport Fill
from flyby.wire._head cimport ResponseHead

cdef enum:
    DROPPED = 65_536  # bytes of content that nobody needs and that are read rather than the connection be closed

cdef object NONE = BodyKind.NONE
cdef object LENGTH = BodyKind.LENGTH
cdef object CLOSE = BodyKind.CLOSE
cdef object MISS = Outcome.MISS
cdef object PASS = Outcome.PASS
cdef object GUESSED = Reason.GUESSED.value
cdef object STALE = Outcome.STALE
cdef object REVALIDATED = Outcome.REVALIDATED
cdef tuple NAMES = ("waiting", "asking", "streaming", "done", "failed")


cdef class Fetch(Streaming):
    """See the module's text. `begin` begins; an error in a later step becomes the response."""

    def __init__(
        self, Exchange exchange not None, why, *, Fill fill=None, Entry stale=None, int purpose=0,
        bint conditions=False, on_switch=None,
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

    # ---- the response's head -----------------------------------------------------------------------------------------

    cdef int _answered(self, ResponseHead head) except -1:
        cdef Exchange exchange = self.exchange
        cdef double elapsed
        clock = exchange.context.clock
        elapsed = clock.monotonic() - self._started
        self.response = head
        self.response_ms = clock.wall_ms()
        self.state = STREAMING
        exchange.first_byte_ms = elapsed * 1000
        self.lease.observe(elapsed, head.status in _FAILURES)
        if not head.fields.get(b"date"):
            # RFC 9110 6.6.1: a recipient that keeps a response without a Date gives it one.
            head.fields.set(b"Date", format_http_date(clock.date_ms() // 1000))
        if head.status == 101:
            if self._on_switch is not None:
                self.state = DONE
                self._on_switch(self)
                return 0
            raise UpstreamError(502, "upgrade", "http_upgrade_failed", "the origin switched protocols unasked")
        if self._half_closed:
            self._heard = monotonic()
            self._watch_silence()
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
        speaks_of_it = head.status != 304 or stale is None or renewal.speaks_of(stale, self)
        found = before_policy(head.status, stale is not None and not self._whole, speaks_of_it, stands_in)
        if found is None:
            plan = renewal.plan_for(exchange, self, head)
            if isinstance(plan, Plan) and b"range" in request.fields and head.status != 206:
                # RFC 9110 14.2: an origin that ignores Range has sent the whole; where it ends must be certain.
                if exchange.rules.points.guard_guesses and head.framing(request.method)[0] is CLOSE:
                    plan = Reason.PARTIAL
            found = by_policy(request, head.status, plan, self.why is Reason.TOO_LARGE)
        if found.action is Action.FRESHEN:
            return self._freshen()
        if found.action is Action.AGAIN:
            return self._again()
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
        tell_of_refused_form(exchange, self.response.status)
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
            exchange.own_lines += renewal.cookies_for_client(exchange, self)
            hit.serve(exchange, entry or self.stale, REVALIDATED, self.why, fwd_status=304)
        return 0

    cdef int _again(self) except -1:
        """RFC 9111 4.3.4: what is stored is another response than the origin's: the whole is asked for."""
        self._whole = True
        self._upstream.stream(Ignored())
        self.lease.release()
        return self._acquire()

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
                raise UpstreamError(
                    503, "no-room", "proxy_internal_error", "the rest of a stored part cannot be stored"
                )
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
        detail = GUESSED if guessed(plan.times, plan.flags) else None
        status = status_field(MISS, self.why, self.response.status, True, detail)
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
            client.begin(code, _REASONS[code], fields, length)
        client.on_writable(self._client_ready)
        return 0

    cdef int _pass(self, reason, bint offered) except -1:
        """Lead the response to the client alone; `reason` is why it is not stored, `offered` that it might be."""
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

    cdef int _mark(self, reason) except -1:
        """What is not for sharing: followers fetch for themselves, and a mark spares the next requests the wait."""
        cdef Exchange exchange = self.exchange
        cdef ResponseHead head = self.response
        store = exchange.context.store
        if self.fill is not None or self._conditions:
            self._let_fill_go(Ended.UNCACHEABLE)
            # A failure says nothing against what is stored: it stays, to be validated or served stale again.
            if exchange.request.method == b"GET" and (self.stale is None or head.status < 500):
                storing.mark(exchange, store, reason, head.status)
        elif self.stale is not None and head.status < 500 and exchange.request.method == b"GET" and head.status != 304:
            store.delete(exchange.claim_key)
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
        # Before the head, `first_byte_s` is the limit; the origin's silence counts from the head on.
        if self.state == STREAMING:
            self._watch_silence()

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
