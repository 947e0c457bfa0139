# cython: language_level=3
# cython: boundscheck=False, wraparound=False, cdivision=True
"""A plain request on a kept connection, from buffer to socket, its two heads written straight from the bytes that came.

    read buffer ─ glance ─▶ `_onward_head` ─▶ one send to the origin
    client ◀─ one write: head and content ◀─ `_verdict` ◀─ a glance ◀─ the origin's read buffer
                  └─▶ the Fill, where the verdict is to store

A short cut of `_fetch`, whose states, audience and ends it has: it saves the two parsed heads, three quarters of what a
fetch costs. It decides nothing: what the origin is told is `forwarding`'s to say, what is stored policy's, remembered
by `_verdict`. Whatever is not plain (a response of another kind, a failure, an interim head, a connection that must be
waited for) goes on in `Fetch`, by the same object, before a byte has been written.

A `Forwarder` is what there is to know of a route beforehand.
"""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy

from flyby.metrics import NO_ROUTE as _NO_ROUTE
from flyby.policy import UNKEYED as _UNKEYED
from flyby.policy import Reason, has_dot_segments, validators_for
from flyby.proxy.fetching import storing
from flyby.proxy.fetching._response import changes
from flyby.proxy.fetching.ended import Ended
from flyby.proxy.fetching.request import SHARED_LEFT_OUT as _SHARED_LEFT_OUT
from flyby.proxy.road._identity import identity as accepted_identity
from flyby.proxy.routing import forwarding
from flyby.proxy.routing.resource import place_of
from flyby.proxy.stored import hit, variants
from flyby.proxy.stored.hit import stored_fields

from flyby.clock cimport monotonic, wall_ms
from flyby.proxy.fetching._asking cimport ASKING, DONE, STREAMING, TO_FORWARD
from flyby.proxy.fetching._fetch cimport Fetch
from flyby.proxy.fetching._ledger cimport Ledger
from flyby.proxy.fetching._streaming cimport CLIENT, STORE
from flyby.proxy.fetching._upload cimport Upload
from flyby.proxy.fetching._verdict cimport DATE, WITH_AUTHORIZATION, WITH_COOKIE, Verdict, Verdicts
from flyby.proxy.road._content cimport Content
from flyby.proxy.road._downstream cimport FORWARDED, MARKED, SHARED, VALIDATED, Downstream, Onward, Sight
from flyby.proxy.road._exchange cimport Exchange, exchange_of
from flyby.proxy.road._identity cimport fresh_identity
from flyby.proxy.road._outbox cimport iovec
from flyby.proxy.routing._onward_head cimport Sayings, put_request, request_names, room_for
from flyby.store._entry cimport Entry
from flyby.store._fill cimport Fill
from flyby.store._serve cimport serve_mark, serve_renew, serve_store
from flyby.upstream._direct cimport DirectConnection
from flyby.upstream._pool cimport Lease
from flyby.wire._glance cimport AUTHORIZATION, CLOSE, COOKIE, COUNTED
from flyby.wire._names cimport NameTable
from flyby.wire._plain cimport Plain
from flyby.wire._put cimport text_at, text_of

cdef enum:
    OUT = 262_144     # bytes of the longest head that is written here, with the content behind it
    STEP_MS = 500     # by which the two differ only when the wall clock has been set back
    MOST_ADDED = 512  # bytes of what this edge adds to a response's head
    MOST_CONDITIONS = 256  # heads whose conditions are remembered

cdef char HEAD_OUT[OUT]  # a head on its way to the socket; nothing of it outlives the call
cdef NameTable FOR_STORE = request_names(_SHARED_LEFT_OUT)
cdef NameTable FOR_CLIENT = request_names(_UNKEYED)
cdef NameTable FORWARD = request_names(())
cdef object METHOD = Reason.METHOD
cdef object URI_MISS = Reason.URI_MISS
cdef object HIT_FOR_MISS = Reason.HIT_FOR_MISS
cdef object STALE = Reason.STALE


cdef bint dotted(const unsigned char *path, Py_ssize_t length) except -1:
    """`has_dot_segments`, asked only where there may be one."""
    cdef Py_ssize_t at
    cdef bint doubtful = memchr(path, c"%", length) != NULL or memchr(path, c"\\", length) != NULL
    for at in range(length - 1):
        doubtful = doubtful or (path[at] == c"/" and path[at + 1] == c".")
    return doubtful and has_dot_segments(PyBytes_FromStringAndSize(<const char *>path, length))


@cython.final
cdef class Forwarder(Onward):
    """One route, on which plain requests may go on at once."""

    def __init__(self, context, match, rules, limits, log):
        route = match.route
        self.context = context
        self._match = match
        self._rules = rules
        self._backend = context.backends[match.backend]
        self._host = context.backends[match.backend].settings.host
        self._retries = context.backends[match.backend].retries
        self._given_host = self._host.encode()
        self._store = context.store
        self._held_store = serve_store(self._store)
        self._ledger = Ledger(log, context.log is not None, context.counted.get(id(route), _NO_ROUTE))
        self._guard_paths = rules.points.guard_paths
        self._mark_ms = round(rules.hit_for_miss_s * 1000)
        self._server_port = -1
        self._known_conditions = {}
        if not changes(route.response_headers):
            self._verdicts = Verdicts(rules, limits, context.metrics)

    cdef bytes _port_of(self, Downstream client, const Sight *sight):
        """The port that the client used, as X-Forwarded-Port says it."""
        cdef const unsigned char *host = sight.base + sight.seen.host.start
        cdef const unsigned char *colon = <const unsigned char *>memchr(host, c":", sight.seen.host.length)
        if colon != NULL:
            return PyBytes_FromStringAndSize(<const char *>colon + 1, host + sight.seen.host.length - colon - 1)
        peer = client.client
        if <int>peer.server_port * 2 + client.secure != self._server_port:
            self._port = forwarding.port_of(b"", b"https" if client.secure else b"http", peer.server_port)
            self._server_port = <int>peer.server_port * 2 + client.secure
        return self._port

    cdef Py_ssize_t begin(self, Downstream client, const Sight *sight) except -1:
        """Send the request on; 0 when no connection lies ready for it, or it is to be followed or completed."""
        cdef FlatFetch fetch
        cdef Exchange exchange
        cdef Sayings says
        cdef NameTable names = FORWARD
        cdef bytes host, identity, port, method, conditions
        cdef Py_ssize_t length, content = 0
        cdef Lease lease
        if sight.seen.body == COUNTED:
            content = <Py_ssize_t>sight.seen.content
            if sight.seen.length + content > sight.size:
                return 0
        lease = self._backend.lease_at(sight.now)
        if lease is None:
            return 0
        fetch = None
        if isinstance(lease.connection, DirectConnection):
            fetch = self._fetch_for(sight)
        if fetch is None:
            lease.release()
            return 0
        try:
            if sight.seen.request_id.length:
                identity = accepted_identity(
                    PyBytes_FromStringAndSize(
                        <const char *>sight.base + sight.seen.request_id.start, sight.seen.request_id.length
                    )
                )
            else:
                identity = fresh_identity()
            host = None
            if self._host == "origin":
                host = lease.origin.authority
            elif self._host != "client":
                host = self._given_host
            port = self._port_of(client, sight)
            says.host = text_of(host) if host else text_at(sight.base, sight.seen.host)
            says.address = text_of(client.address)
            says.scheme.start = <const unsigned char *>("https" if client.secure else "http")
            says.scheme.length = 4 + client.secure
            says.identity = text_of(identity)
            says.port = text_of(port)
            says.now_ms = sight.now_ms
            if room_for(sight.seen, &says) + content + (0 if fetch.stale is None else len(fetch.stale.head)) > OUT:
                fetch._let_fill_go(Ended.LOST)
                lease.release()
                return 0
            exchange = exchange_of(self.context, client, sight.base, sight.seen, sight.now)
            exchange._identity = identity
            exchange.match, exchange.rules, exchange.backend_name = self._match, self._rules, self._backend.name
            exchange.primary = exchange.claim_key = PyBytes_FromStringAndSize(sight.key, sight.key_length)
            exchange.since = serve_mark(self._held_store)
            exchange.source = fetch
            fetch.exchange = exchange
            fetch._client = client
            fetch.lease = lease
            fetch._upstream = lease.connection
            fetch.state = ASKING
            if content:
                fetch._sent = PyBytes_FromStringAndSize(<const char *>sight.base + sight.seen.length, content)
            fetch._judged = self._verdicts is not None and not (
                self._guard_paths and dotted(sight.base + sight.seen.target.start, sight.seen.target.length)
            )
        except BaseException:
            fetch._let_fill_go(Ended.LOST)
            lease.discard()
            raise
        client.engage(exchange, not sight.seen.seen & CLOSE)
        self._retries.earn()
        if sight.errand == SHARED:
            names = FOR_STORE
        elif sight.errand == MARKED:
            names = FOR_CLIENT
        elif sight.errand == VALIDATED:
            names = FOR_STORE
        length = put_request(HEAD_OUT, sight.base, sight.seen, names, &says)
        if sight.errand == VALIDATED:
            conditions = self._conditions_of(fetch.stale.head)
            memcpy(HEAD_OUT + length - 2, PyBytes_AS_STRING(conditions), PyBytes_GET_SIZE(conditions))
            length += PyBytes_GET_SIZE(conditions)
            memcpy(HEAD_OUT + length - 2, b"\r\n", 2)
        memcpy(HEAD_OUT + length, sight.base + sight.seen.length, content)
        method = PyBytes_FromStringAndSize(<const char *>sight.base + sight.seen.verb.start, sight.seen.verb.length)
        (<DirectConnection>lease.connection).ask(HEAD_OUT, length + content, method, fetch, sight.now)
        return sight.seen.length + content

    cdef FlatFetch _fetch_for(self, const Sight *sight):
        """The fetch, with a Fill where it may be shared; None when another's is to be followed, or a part completed."""
        cdef FlatFetch fetch = FlatFetch.__new__(FlatFetch)
        cdef Fill fill
        cdef bytes key
        fetch._forwarder = self
        fetch._errand = sight.errand
        fetch._limit = -1
        fetch._started = sight.now
        fetch.request_ms = sight.now_ms
        fetch._asking = (WITH_COOKIE if sight.seen.seen & COOKIE else 0) | (
            WITH_AUTHORIZATION if sight.seen.seen & AUTHORIZATION else 0
        )
        if sight.errand == FORWARDED:
            fetch._purpose = TO_FORWARD
            fetch.why = METHOD
        elif sight.errand == VALIDATED:
            fetch.why = STALE
            fetch.stale = <Entry>sight.stale
        elif sight.errand == MARKED:
            fetch.why = HIT_FOR_MISS
            fetch._conditions = True
            fetch._renews = (sight.fresh_ms - sight.now_ms) * 2 < self._mark_ms
        else:
            fetch.why = URI_MISS
            key = PyBytes_FromStringAndSize(sight.key, sight.key_length)
            fill = self._store.claim(key)
            if fill is None:
                return fetch
            if not fill.owner or self._store.lookup(key) is not None or (
                self._store.lookup(key + variants.PART) is not None
            ):
                if fill.owner:
                    fill.abort(Ended.LOST)
                fill.release()
                return None
            fetch.fill = fill
        return fetch

    cdef bytes _conditions_of(self, bytes head):
        """The lines that ask whether a stored response with that head is still right; remembered for a few."""
        cdef bytes lines = self._known_conditions.get(head)
        if lines is None:
            if len(self._known_conditions) >= MOST_CONDITIONS:
                self._known_conditions.clear()
            lines = b"".join([b"%b: %b\r\n" % each for each in validators_for(stored_fields(head))])
            self._known_conditions[head] = lines
        return lines


@cython.final
@cython.freelist(64)
cdef class FlatFetch(Fetch):
    """See the module's text."""

    cdef int _acquire(self) except -1:
        """Ask again, as any other fetch, with the content that was sent."""
        cdef Content content
        if self._sent is not None:
            content = Content()
            content.put(self._sent)
            content.finish(None)
            self._sent = None
            self.exchange.downstream.content = content
            self._upload = Upload(self, self.exchange)
        return Fetch._acquire(self)

    cdef Py_ssize_t recognise(self, const unsigned char *base, Py_ssize_t size, long long *content) except -1:
        cdef Plain seen
        cdef Verdict verdict
        cdef Verdicts verdicts = self._forwarder._verdicts
        cdef Downstream client = self._client
        cdef double now
        cdef long long now_ms
        if not self._judged or client is None:
            return 0
        if self._errand == VALIDATED:
            return self._validate(base, size, content)
        if not verdicts.glance(base, size, &seen):
            return 0
        if seen.length + 2 * seen.count + MOST_ADDED > OUT:
            return 0
        verdict = verdicts.judge(base, &seen, self._asking, self.exchange)
        if verdict is None:
            return 0
        now_ms = self.exchange.context.clock.wall_ms()
        if now_ms - wall_ms() > STEP_MS:
            return 0  # the wall clock has stepped back: dates and ages are told by different clocks
        if not self._accept(verdict, base, &seen, now_ms):
            return 0
        now = monotonic()
        self.exchange.first_byte_ms = (now - self._started) * 1000
        self.lease.answered(now - self._started, now)
        self.state = STREAMING
        if self._half_closed:
            self._heard = now
            self._watch_silence()
        self.response_ms = now_ms
        self.exchange.note(self._words.outcome, self._words.reason, seen.status)
        self.exchange.recorder = self
        self._held = verdicts.put_response(HEAD_OUT, base, &seen, self._words, now_ms)
        self._held = client.close_head(HEAD_OUT, self._held, seen.content < 0)
        content[0] = seen.content
        return seen.length

    cdef Py_ssize_t _validate(self, const unsigned char *base, Py_ssize_t size, long long *content) except -1:
        """RFC 9111 4.3.4, for a 304 that changes but times: `ended` sends what is stored. 0 for `Fetch` to do."""
        cdef Plain seen
        cdef Verdict verdict
        cdef Verdicts verdicts = self._forwarder._verdicts
        cdef Entry stale = self.stale
        cdef bytes head = stale.head
        cdef long long now_ms = wall_ms()
        cdef int64_t born_ms, fresh_ms
        cdef double now
        cdef Py_ssize_t at = head.find(b"\r\nDate: ")
        if at < 0 or not verdicts.unchanged(base, size, head, &seen):
            return 0
        verdict = verdicts.judge_stored(head, self._asking, self.exchange)
        if verdict is None or verdict.reason is not None:
            return 0
        if not verdicts.times(verdict, base, &seen, self.request_ms, now_ms):
            return 0
        date = PyBytes_FromStringAndSize(<const char *>base + seen.noted[<int>DATE].start, seen.noted[<int>DATE].length)
        if head[at + 8 + PyBytes_GET_SIZE(date) :][:2] != b"\r\n":
            return 0
        now = monotonic()
        born_ms = now_ms - max(verdict.age_ms, now_ms - self.request_ms)
        fresh_ms = born_ms + verdict.life_ms
        serve_renew(self._forwarder._held_store, stale, born_ms, fresh_ms, verdict.swr_s, verdict.sie_s, date, at + 8)
        # Rounded down, below zero too.
        self._words = verdicts.words_of_validated(verdict, (fresh_ms - now_ms + 86_400_000_000) // 1000 - 86_400_000)
        self._renewed = b"%b%b%b" % (head[: at + 8], date, head[at + 8 + len(date) :])
        self._age_s = max(now_ms - born_ms, 0) // 1000
        self.exchange.first_byte_ms = (now - self._started) * 1000
        self.lease.answered(now - self._started, now)
        self.state = STREAMING
        self.response_ms = now_ms
        self.exchange.note(self._words.outcome, self._words.reason, stale.status)
        self.exchange.recorder = self
        content[0] = 0
        return seen.length

    cdef bint _accept(self, Verdict verdict, const unsigned char *base, const Plain *seen, long long now_ms) except -1:
        """Do with the response what the verdict says, as far as its head goes; False when that is for `Fetch` to do."""
        cdef Exchange exchange = self.exchange
        cdef Verdicts verdicts = self._forwarder._verdicts
        if self._purpose == TO_FORWARD:
            self._untrue()
            self._words = verdicts.words(verdict, self.why, False, False)
            self._way = CLIENT
            return True
        if verdict.reason is None:
            if self.fill is None or not verdicts.times(verdict, base, seen, self.request_ms, now_ms):
                return False
            if verdict.template.withheld or verdict.template.beside_cookie:
                return False
            if not self._open(verdict, base, seen, now_ms):
                return False
            self._words = verdicts.words(verdict, self.why, True, True)
            self._way = STORE
            return True
        self._words = verdicts.words(verdict, self.why, True, False)
        if self.fill is not None:
            self._let_fill_go(Ended.UNCACHEABLE)
            self._renews = True
        if self._renews:
            storing.mark(exchange, self._forwarder._store, verdict.reason, seen.status)
        self._way = CLIENT
        return True

    cdef bint _open(self, Verdict verdict, const unsigned char *base, const Plain *seen, long long now_ms) except -1:
        """Begin to store; False when there is no room."""
        cdef Exchange exchange = self.exchange
        cdef int64_t born_ms = now_ms - max(verdict.age_ms, now_ms - self.request_ms)
        return self.fill.open(
            exchange.primary,
            self._forwarder._verdicts.stored_head(base, seen, now_ms),
            seen.status,
            verdict.flags,
            born_ms,
            born_ms + verdict.life_ms,
            verdict.swr_s,
            verdict.sie_s,
            seen.content,
            compress=verdict.packable,
            tags=self.lease.tags,
            place=place_of(exchange.primary),
        )

    cdef int _untrue(self) except -1:
        """RFC 9111 4.4: what is stored of the target is not true any more."""
        cdef bytes key = self.exchange.primary
        if self._forwarder._store.lookup(key) is not None:
            variants.purge(self._forwarder._store, key, False)
        else:
            # Also what is being fetched of it is not stored.
            self._forwarder._store.delete(key)
        return 0

    # ---- the content -------------------------------------------------------------------------------------------------

    cdef int begin(self) except -1:
        """Let chunks flow: they are made anew, so they take the way that all take."""
        cdef Downstream client = self._client
        client._outbox.hold(PyBytes_FromStringAndSize(HEAD_OUT, self._held))
        self._held = 0
        client.on_writable(self._client_ready if self._way == STORE else (<object>self._upstream).resume_reading)
        self._upstream.stream(self)
        client.flush()
        return 0

    cdef int part(self, const unsigned char *base, Py_ssize_t size) except -1:
        if self._half_closed:
            self._heard = monotonic()
        if self._errand == VALIDATED:
            return 0
        if self._way == STORE and size:
            view = PyMemoryView_FromMemory(<char *>base, size, PyBUF_READ)
            if not self.fill.write(view):
                self._hand_over(base, 0)
                self._outgrow(view)
                return 0
            if self._client is None or self._offset != self._written or self._client.paused:
                self._written += size
                self._hand_over(base, 0)
                self._read_along()
                return 0
            self._written += size
            self._offset += size
        return self._hand_over(base, size)

    cdef int _hand_over(self, const unsigned char *base, Py_ssize_t size) except -1:
        """Send the head, if it is still here, and these bytes to the client, which holds the origin if it is behind."""
        cdef Downstream client = self._client
        cdef iovec parts[2]
        cdef int count = 0
        cdef size_t total = self._held + size
        if client is None or not total:
            return 0
        if self._held:
            parts[0].iov_base = HEAD_OUT
            parts[0].iov_len = self._held
            count = 1
            self._held = 0
        if size:
            parts[count].iov_base = <void *>base
            parts[count].iov_len = size
            count += 1
        client.write_parts(parts, count, total)
        if client.paused:
            if self._way == STORE:
                client.on_writable(self._client_ready)
            else:
                client.on_writable((<object>self._upstream).resume_reading)
                self._upstream.pause_reading()
                self._fell_behind()
        return 0

    cdef int ended(self) except -1:
        cdef Downstream client = self._client
        cdef Entry stale = self.stale
        cdef double now = monotonic()
        self.state = DONE
        self.lease.returned(now)
        if self._errand == VALIDATED:
            self._client = None
            if client is not None:
                head = self._renewed + hit.age_fields(self._age_s, self._words.member)
                client.send_stored(head, stale.length, (hit.content(stale, 0, stale.length),), stale.status)
            return 0
        if self._way == STORE:
            self.fill.commit()
            if client is not None and self._offset < self._written:
                return self._read_along()
            self._let_fill_go(Ended.LOST)
        elif self._way != CLIENT:
            return self._content_over(None)
        if client is not None:
            self._client = None
            self.exchange.finished()
            client.complete(now)
        return 0

    def record(self):
        """Record the request, as any other exchange's recorder."""
        self._forwarder._ledger.write(self.exchange, self._words)
