# cython: language_level=3
# cython: boundscheck=False, wraparound=False, cdivision=True
"""The fast lane: plain requests that the store can answer, from the read buffer to the socket without a Python object.

    read buffer   GET /a …␍␊␍␊GET /b …␍␊␍␊POST /c …          (pipelined; mostly it is just one)
                  │ glance: is it a whole plain request?  ✗ ──────────────────▶ the long way, from there on
                  │ signpost: do host and path decide the route?  ✗ ──────────▶        "
                  │ key, hash, look-up (pins the block), Vary, fresh?  ✗ ─────▶        "
                  ▼
    out buffer    stored head │ Age, Cache-Status, Content-Length │ small body ‖ stored head │ …
    parts         ──────────── one part ─────────────────────────  ── body, where it lies in the store ──  …
                  ▼
    one sendmsg(2) for all of them ─▶ unpin ─▶ count ─▶ a line each in the log's buffer
                  └─ the socket took a part only: a `Remainder` is the connection's exchange until the rest is sent

Nothing here decides anything new. What is left to the long way: conditions other than one entity tag in If-None-Match
or the very date in If-Modified-Since, a Range that is not one satisfiable range, Authorization, CDN-Loop, Cache-Control
where it counts, whatever is not fresh, responses that have no content by their status, marks of the store's own, routes
whose key or fate is not the plain one. When in doubt `_answer` says no, having changed nothing. An object stays pinned
exactly as long as a part points into it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memmove

from flyby.clock import SystemClock
from flyby.metrics import NO_ROUTE as _NO_ROUTE
from flyby.metrics import Metrics as NewMetrics
from flyby.policy.entry import EntryFlag
from flyby.proxy.lane.remainder import Remainder

from flyby.clock cimport monotonic, wall_ms
from flyby.log._lines cimport Served
from flyby.metrics._page cimport Metrics
from flyby.proxy.http1._connection cimport Connection
from flyby.proxy.lane._account cimport Account, Answer
from flyby.proxy.road._downstream cimport (
    FORWARDED, MARKED, SHARED, VALIDATED, Downstream, Errand, Onward, ShortCut, Sight,
)
from flyby.proxy.road._outbox cimport ROUND, iovec, joined, next_round
from flyby.proxy.routing._signpost cimport Post, Signpost, key_on
from flyby.proxy.stored._condition cimport CHANGED, UNCHANGED, Condition, Conditions, fresh_for
from flyby.proxy.stored._reply cimport MOST_ADDED, put_added, put_partial, put_unmodified
from flyby.proxy.stored._selection cimport SUFFIX, Selection
from flyby.store._serve cimport (
    PIECE, Cursor, Digest, Found, serve_digest, serve_done, serve_entry, serve_find, serve_hit, serve_piece,
    serve_read, serve_store,
)
from flyby.wire._glance cimport (
    AUTHORIZATION, CACHE_CONTROL, CDN_LOOP, CHUNKED, CLOSE, COOKIE, EXPECT, GET, HEAD, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, NO_CONTENT, OPTIONS, PRECONDITION, RANGE, Glance, glance_any, glance_limits,
)
from flyby.wire._put cimport put, text_at, text_of

READ_BUFFER = 65_536  # bytes of one read(2)

cdef enum:
    OUT = 262_144  # bytes of heads and small bodies that are put together for one write
    SMALL = 4096  # a body up to this is copied behind its head: cheaper than a part of its own
    LONGEST_KEY = 16_384

cdef unsigned int NEVER_HERE = CDN_LOOP | EXPECT  # in any case for the general path
cdef unsigned int ASKS_MORE = AUTHORIZATION | PRECONDITION
cdef unsigned int UNMODIFIED = IF_NONE_MATCH | IF_MODIFIED_SINCE
cdef unsigned int IN_PART = RANGE | IF_RANGE
cdef unsigned int ABOUT_STORED = CACHE_CONTROL | UNMODIFIED | IN_PART
cdef uint32_t PASSED_ON = EntryFlag.HIT_FOR_MISS
cdef uint32_t TOO_LARGE = EntryFlag.TOO_LARGE
cdef uint32_t VALIDATE = EntryFlag.NO_CACHE
cdef uint32_t VALIDATOR = EntryFlag.VALIDATOR
cdef uint32_t COOKIELESS = EntryFlag.COOKIELESS
cdef uint32_t NO_RESPONSE = EntryFlag.HIT_FOR_MISS | EntryFlag.VARY_MARKER | EntryFlag.PARTIAL
cdef uint32_t MARKER = EntryFlag.VARY_MARKER
cdef uint32_t HEURISTIC = EntryFlag.HEURISTIC


@cython.final
cdef class Lane(ShortCut):
    def __cinit__(self):
        cdef unsigned char[::1] view
        buffer = bytearray(READ_BUFFER)
        view = buffer
        self.read_buffer = memoryview(buffer)
        self._input = &view[0]
        self.closed = True
        self._selection = Selection()
        self._conditions = Conditions()
        self._out = <char *>malloc(OUT)
        self._key = <char *>malloc(LONGEST_KEY)
        if self._out == NULL or self._key == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._out)
        free(self._key)

    def use(
        self, store, signs, forwarders, crowds, bytes reserved, limits, clock, double idle_s, log, Metrics metrics=None,
        rows=None,
    ):
        """Answer by this configuration from now on; `log` takes an AccessRecord of each answer, or is None.

        `forwarders` has, for each sign, what sends a plain request on, or None; `crowds` wait for fetches; paths that
        begin with `reserved` are flyby's own. Each answer is counted in `metrics`, under the row there that `rows` has
        for its sign.
        """
        self._store = serve_store(store)
        self._reserved = reserved
        for number, scheme in enumerate((b"http", b"https")):
            glance_limits(limits, scheme, &self._limits[number])
        self._posts = Signpost(signs, b"http")
        self._secure_posts = Signpost(signs, b"https")
        self._forwarders = list(forwarders)
        self._crowds = crowds
        self._clock = None if type(clock) is SystemClock else clock
        self._idle_s = idle_s
        metrics = NewMetrics() if metrics is None else metrics
        rows = [_NO_ROUTE] * len(signs) if rows is None else rows
        self._account = Account(log, metrics, bytes(rows), self._posts.backends)
        self.closed = False

    cdef Py_ssize_t run(self, Downstream client, Py_ssize_t length) except -1:
        """Answer what can be of the first `length` bytes that were read; how many of them are dealt with.

        At most so many requests as make one write; `more` says that others may follow.
        """
        cdef Py_ssize_t used = 0
        cdef Glance seen
        cdef bint sent = True
        self._read_clocks()
        self._onward = None
        self._stale = None
        self._full = False
        self._count = self._part_count = 0
        self._used = 0
        self._total = 0
        try:
            while used < length and not self._full:
                if not glance_any(self._input + used, length - used, &self._limits[client.secure], &seen):
                    break
                if not self._answer(client, self._input + used, &seen):
                    break
                used += seen.length
                self._full = self._count == BATCH
                if seen.seen & CLOSE:
                    # The client's last request: what follows it is not read (RFC 9112 9.6).
                    client._keep_alive = False
                    used = length
            if self._count:
                sent = self._send(client)
        except:
            self._unpin()
            raise
        self.more = self._full and sent
        if not sent:
            return used
        if used:
            client._deadline = self._now + self._idle_s
        if not client._keep_alive:
            client.complete(self._now)
        elif self._onward is not None:
            used += self._send_on(client, used, length, &seen)
        return used

    cdef Py_ssize_t _send_on(self, Downstream client, Py_ssize_t used, Py_ssize_t length, const Glance *seen) except -1:
        """Let the request at `used`, which cannot be answered here, be taken by what can; the bytes that it takes."""
        cdef Sight sight
        cdef Py_ssize_t taken
        sight.base = self._input + used
        sight.size = length - used
        sight.seen = seen
        sight.now, sight.now_ms = self._now, self._now_ms
        sight.errand = self._errand
        sight.key, sight.key_length = self._key, self._key_length
        sight.fresh_ms = self._mark_fresh_ms
        sight.stale = <void *>self._stale
        taken = self._onward.begin(client, &sight)
        self._stale = None
        if taken:
            self.passed += 1
        return taken

    cdef void _read_clocks(self):
        if self._clock is None:
            self._now_ms = wall_ms() + self.skew_ms
            self._now = monotonic()
        else:
            self._now_ms = self._clock.wall_ms()
            self._now = self._clock.monotonic()

    # ---- one answer --------------------------------------------------------------------------------------------------

    cdef bint _answer(self, Downstream client, const unsigned char *base, const Glance *seen) except -1:
        """Add the answer to this request to the write; False when it is not for this lane, or `_full`."""
        cdef const Post *post
        cdef Signpost posts
        cdef Found found
        cdef const char *own = PyBytes_AS_STRING(self._reserved)
        cdef Py_ssize_t reserved = PyBytes_GET_SIZE(self._reserved)
        if seen.seen & NEVER_HERE or not self._store.usable or client._closing:
            return False
        if <Py_ssize_t>seen.target.length >= reserved and memcmp(base + seen.target.start, own, reserved) == 0:
            return False
        if not client.approves(base + seen.host.start, seen.host.length):
            return False
        posts = self._secure_posts if client.secure else self._posts
        post = posts.choose(base + seen.host.start, seen.host.length, base + seen.target.start, seen.path_length)
        if post != NULL:
            self._key_length = key_on(post, client.secure, base, seen, self._key, LONGEST_KEY - SUFFIX)
        if post == NULL or not self._key_length:
            return False
        if seen.method != GET and seen.method != HEAD:
            if seen.body != CHUNKED and seen.method != OPTIONS:
                self._aim(posts, post, FORWARDED)
            return False
        # Where a client cannot force a reload, its Cache-Control changes nothing about a fresh response.
        if seen.body != NO_CONTENT or (seen.seen & CACHE_CONTROL and not post.ignore_reload):
            return False
        if not self._look_up(base, seen, &found):
            if self._missed and seen.method == GET and not seen.seen & (ABOUT_STORED | ASKS_MORE):
                self._onward = self._crowds.awaited(
                    self._store, self._key, self._missed, self._digest, <str>posts.backends[post.number],
                    posts.rules[post.number],
                )
                if self._onward is None:
                    self._aim(posts, post, SHARED)
            return False
        if found.flags & PASSED_ON and seen.method == GET and not seen.seen & (CACHE_CONTROL | IN_PART):
            if found.fresh_ms > self._now_ms and not found.flags & TOO_LARGE:
                self._mark_fresh_ms = found.fresh_ms
                self._aim(posts, post, MARKED)
        if found.flags & VALIDATE and found.flags & VALIDATOR and not found.flags & NO_RESPONSE and (
            found.status == 200 and seen.method == GET and not seen.seen & (ABOUT_STORED | ASKS_MORE)
            and not (seen.seen & COOKIE and found.flags & COOKIELESS)
        ):
            # RFC 9111 5.2.2.4: by each request.
            self._aim(posts, post, VALIDATED)
            self._stale = serve_entry(self._store, &found)  # the pin is its own from here on
            return False
        if not fresh_for(post, seen, &found, self._now_ms) or not self._put(client, base, seen, &found):
            serve_done(self._store, &found)
            return False
        self._answers[self._count - 1].route = post.number
        return True

    cdef void _aim(self, Signpost posts, const Post *post, Errand errand) noexcept:
        """The request, which is not answered here, may be sent on at once."""
        self._onward = <Onward>self._forwarders[post.number]
        self._errand = errand

    cdef bint _look_up(self, const unsigned char *base, const Glance *seen, Found *found) except -1:
        """Find the object that the request selects under the key, pinned; False when there is none."""
        cdef Py_ssize_t length = self._key_length
        cdef Found marker
        cdef Digest digest
        cdef bint known
        self._digest = serve_digest(self._store, self._key, length)
        if not serve_find(self._store, self._digest, self._key, <uint32_t>length, found):
            self._missed = length
            return False
        self._missed = 0
        if not found.flags & MARKER:
            return True
        marker = found[0]
        try:
            known = self._selection.suffix(self._store, &marker, seen, base, <unsigned char *>self._key + length)
        finally:
            serve_done(self._store, &marker)
        if not known:
            return False
        length += SUFFIX
        digest = serve_digest(self._store, self._key, length)
        return serve_find(self._store, digest, self._key, <uint32_t>length, found)

    cdef bint _put(self, Downstream client, const unsigned char *base, const Glance *seen, Found *found) except -1:
        """Put the response into the write. The pin is taken over, or given back, unless this says False."""
        cdef int status = found.status
        cdef int64_t first = 0
        cdef int64_t last = found.length - 1
        cdef int64_t length
        cdef bint content = not seen.is_head
        cdef bint in_place
        cdef size_t room = found.head_length + MOST_ADDED
        cdef char *start = self._out + self._used
        cdef char *to = start
        cdef Condition condition
        if seen.seen & UNMODIFIED:
            condition = self._conditions.judge(base, seen, found)
            if condition == UNCHANGED:
                status = 304
                content = False
            elif condition != CHANGED:
                return False
        elif seen.seen & RANGE:
            if not self._conditions.part(base, seen, found, &first, &last):
                return False
            status = 206
        length = last - first + 1
        in_place = content and length > 0 and (length <= SMALL or found.body == NULL)
        if found.body == NULL and content:
            # What is packed and reaches over several pieces is unpacked one by one, at the client's pace.
            if length and first // PIECE != last // PIECE:
                return False
            room += min(found.length, <int64_t>PIECE)
        elif in_place:
            room += length
        if self._used + room > OUT:
            self._full = self._count > 0
            return False
        if status == 304:
            to = put_unmodified(to, found.head, found.head_length)
        elif status == 206:
            to = put_partial(to, found.head, found.head_length, first, last, found.length)
        else:
            to = put(to, found.head, found.head_length)
        to = put_added(
            to, max(self._now_ms - found.born_ms, 0) // 1000, (found.fresh_ms - self._now_ms) // 1000,
            found.flags & HEURISTIC != 0, -1 if status == 304 else length,
        )
        if seen.seen & CLOSE:
            to = put(to - 2, "Connection: close\r\n\r\n", 21)
        if in_place:
            to = self._put_body(found, first, length, to)
            if to == NULL:
                return False
        serve_hit(self._store, found, True)
        self._told(client, base, seen, status)
        self._add_text(start, to - start)
        if content and length and not in_place:
            self._total += length
            self._add_part(<char *>found.body + first, length, found)
        else:
            serve_done(self._store, found)
        self._answers[self._count - 1].end = self._total
        return True

    cdef char *_put_body(self, Found *found, int64_t first, int64_t length, char *to) noexcept:
        """Copy or unpack bytes of the body, of one piece if it is packed; NULL when that is damaged."""
        cdef Cursor cursor
        cdef int64_t skipped
        if found.body != NULL:
            return put(to, found.body + first, length)
        cursor.number = cursor.at = 0
        skipped = first % PIECE
        if serve_read(self._store, found, &cursor, first - skipped, to) < skipped + length:
            return NULL
        if skipped:
            memmove(to, to + skipped, length)
        return to + length

    cdef void _told(self, Downstream client, const unsigned char *base, const Glance *seen, int status) noexcept:
        """Keep what the log will say; it points into the read buffer, which stays until the write is done."""
        cdef Answer *answer = &self._answers[self._count]
        cdef Served *served = &answer.served
        self._count += 1
        served.status = status
        served.method.start = <const unsigned char *>("HEAD" if seen.is_head else "GET")
        served.method.length = 4 if seen.is_head else 3
        served.host = text_at(base, seen.host)
        served.path = text_at(base, seen.target)
        served.client = text_of(client.address)
        served.user_agent = text_at(base, seen.user_agent)
        served.referer = text_at(base, seen.referer)
        answer.request_id = text_at(base, seen.request_id)

    cdef void _add_text(self, char *start, size_t length) noexcept:
        """Bytes in the out buffer; they join the part before them if that is there too."""
        cdef iovec *last
        self._used += length
        self._total += length
        if self._part_count:
            last = &self._parts[self._part_count - 1]
            if <char *>last.iov_base + last.iov_len == start:
                last.iov_len += length
                return
        self._add_part(start, length, NULL)

    cdef void _add_part(self, char *start, size_t length, Found *pinned) noexcept:
        """A part of the write; the pin of what it lies in is taken over."""
        cdef int number = self._part_count
        self._parts[number].iov_base = start
        self._parts[number].iov_len = length
        if pinned != NULL:
            self._pinned[number] = pinned[0]
        else:
            self._pinned[number].block = NULL
        self._part_count += 1

    # ---- the write ---------------------------------------------------------------------------------------------------

    cdef bint _send(self, Downstream client) except -1:
        """Write what was put together; False when nothing more can be written now."""
        cdef int64_t done
        if client._outbox._fd < 0:
            return self._send_by_transport(client)
        done = client._outbox.gather(self._parts, self._part_count, self._total)
        if done == self._total:
            self._unpin()
            self._finished(client)
            return True
        client._closing = client._closing or done < 0
        done = max(done, 0)
        self._leave(client, done, self._taken(done))
        return False

    cdef bint _send_by_transport(self, Downstream client) except -1:
        """Write through a transport that encrypts, in rounds until it takes no more; False when that is now."""
        cdef list chunks
        cdef int64_t done = 0
        cdef object write = client._outbox._transport.write
        client._outbox._queued = True
        if self._total <= ROUND:
            text = joined(self._parts, self._part_count, 0)
            self._unpin()
            write(text)
        else:
            chunks = self._taken(0)
            while chunks and not client.paused:
                piece = next_round(chunks)
                done += len(piece)
                write(piece)
            if chunks:
                self._leave(client, done, chunks)
                return False
        self._finished(client)
        return not client.paused and not client._closing

    cdef void _unpin(self) noexcept:
        """No part points into the store any more."""
        cdef int number
        for number in range(self._part_count):
            serve_done(self._store, &self._pinned[number])
        self._part_count = 0

    cdef int _finished(self, Downstream client) except -1:
        """Count and log the answers: their last byte is on its way."""
        cdef int64_t took = 0
        self.hits += self._count
        if self._clock is None:
            took = <int64_t>((monotonic() - self._now) * 1e6)
        self._account.settle(self._answers, self._count, client.secure, self._now_ms, took)
        return 0

    cdef list _taken(self, int64_t skipped):
        """The write from its byte number `skipped` on, as views that have the pins."""
        cdef list chunks = []
        cdef int64_t length
        cdef char *start
        cdef int number
        for number in range(self._part_count):
            start = <char *>self._parts[number].iov_base
            length = self._parts[number].iov_len
            if self._pinned[number].block != NULL:
                view = memoryview(serve_piece(self._store, &self._pinned[number], start, length))
            else:
                view = memoryview(PyBytes_FromStringAndSize(start, length))
            if skipped < length:
                chunks.append(view[skipped:] if skipped else view)
            skipped = max(skipped - length, 0)
        self._part_count = 0
        return chunks

    cdef int _leave(self, Downstream client, int64_t done, list chunks) except -1:
        """The client took `done` bytes: the rest becomes the connection's business, pins and all."""
        cdef list records = []
        cdef int64_t before = 0
        cdef int number
        self.hits += self._count
        for number in range(self._count):
            end = self._answers[number].end
            record = self._account.record(&self._answers[number], client.secure, self._now_ms)
            records.append((record, self._answers[number].route, before, end))
            before = end
        client._outbox.sent = done
        clock = self._clock or SystemClock()
        client._occupant = Remainder(
            self._account.counted, self._account.log, records, client._outbox, self._now, clock
        )
        (<Connection>client).send_rest(chunks)
        return 0
