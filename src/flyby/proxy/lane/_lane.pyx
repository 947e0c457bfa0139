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

Nothing here decides anything new. What is left to the long way: conditions other than one entity tag in If-None-Match or
the very date in If-Modified-Since, Range, Authorization, CDN-Loop, Cache-Control where it counts, whatever is not fresh, responses that have no content by their status,
marks of the store's own, routes whose key or fate is not the plain one. When in doubt `_answer` says no, having changed
nothing. A block stays pinned exactly as long as a part points into it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from flyby.clock import SystemClock
from flyby.log import AccessLog, AccessRecord
from flyby.metrics import NO_ROUTE
from flyby.metrics import Metrics as NewMetrics
from flyby.policy import Outcome
from flyby.proxy.road._identity import identity
from flyby.proxy.lane.remainder import Remainder

from flyby.log._lines cimport COMBINED, CONSOLE, OFF, Lines, Text
from flyby.metrics._page cimport Metrics, count, observe
from flyby.policy.entry import EntryFlag
from flyby.proxy.stored._condition cimport CHANGED, UNCHANGED, Condition, Conditions
from flyby.proxy.http1._connection cimport Connection
from flyby.proxy.road._downstream cimport FORWARDED, MARKED, SHARED, VALIDATED, Downstream, Errand, Onward, ShortCut, Sight
from flyby.proxy.road._outbox cimport iovec
from flyby.proxy.stored._reply cimport MOST_ADDED, put_added, put_unmodified
from flyby.proxy.stored._selection cimport SUFFIX, Selection
from flyby.proxy.routing._signpost cimport Post, Signpost
from flyby.store._entry cimport entry_of, piece_of, promote
from flyby.store._guard cimport unpin
from flyby.store._hash cimport Digest
from flyby.store._layout cimport (
    HOT, LZ4, Block, Map, Worker, body_of, born_of, head_of, stored_of, unit_of, worker_at,
)
from flyby.store._pack cimport unpack_to
from flyby.store._purged cimport freshness_of
from flyby.store._shard cimport shard_lookup
from flyby.store._store cimport Store
from flyby.wire._field_line cimport Span
from flyby.wire._glance cimport (
    AUTHORIZATION, CACHE_CONTROL, CDN_LOOP, CHUNKED, CLOSE, COOKIE, EXPECT, GET, HEAD, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, NO_CONTENT, OPTIONS, PRECONDITION, RANGE, glance_any, glance_limits,
)

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *time)
    int CLOCK_REALTIME, CLOCK_MONOTONIC

READ_BUFFER = 65_536  # bytes of one read(2)

cdef enum:
    OUT = 262_144  # bytes of heads and small bodies that are put together for one write
    UNPACKED = 65_536  # a packed body up to this is unpacked there too
    SMALL = 4096  # a body up to this is copied behind its head: cheaper than a part of its own
    LONGEST_KEY = 16_384
    MOST_OF_TLS = 65_536  # bytes of a body that are copied for a transport that must encrypt them

cdef const char *RESERVED = b"/.flyby/"  # see `decision.decide`
cdef unsigned int NEVER_HERE = CDN_LOOP | EXPECT  # in any case for the general path
cdef unsigned int ASKS_MORE = AUTHORIZATION | PRECONDITION | RANGE | IF_RANGE
cdef unsigned int ABOUT_STORED = CACHE_CONTROL | IF_NONE_MATCH | IF_MODIFIED_SINCE
cdef uint32_t NO_PLAIN_HIT = (
    EntryFlag.HIT_FOR_MISS | EntryFlag.VARY_MARKER | EntryFlag.NO_CACHE | EntryFlag.PARTIAL
)
cdef uint32_t PASSED_ON = EntryFlag.HIT_FOR_MISS
cdef uint32_t TOO_LARGE = EntryFlag.TOO_LARGE
cdef uint32_t VALIDATE = EntryFlag.NO_CACHE
cdef uint32_t VALIDATOR = EntryFlag.VALIDATOR
cdef uint32_t COOKIELESS = EntryFlag.COOKIELESS
cdef uint32_t NO_RESPONSE = EntryFlag.HIT_FOR_MISS | EntryFlag.VARY_MARKER | EntryFlag.PARTIAL
cdef uint32_t MARKER = EntryFlag.VARY_MARKER
cdef uint32_t HEURISTIC = EntryFlag.HEURISTIC
cdef uint32_t PUBLIC = EntryFlag.PUBLIC


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

    def use(self, store, signs, forwarders, crowds, limits, clock, double idle_s, log, Metrics metrics=None, rows=None):
        """Answer by this configuration from now on; `log` takes an AccessRecord of each answer, or is None.

        `forwarders` has, for each sign, what sends a plain request on, or None; `crowds` wait for fetches.
        Each answer is counted in `metrics`, under the row there that `rows` has for its sign.
        """
        cdef Store objects = store
        self._store = objects._attachment
        for number, scheme in enumerate((b"http", b"https")):
            glance_limits(limits, scheme, &self._limits[number])
        self._posts = Signpost(signs, b"http")
        self._secure_posts = Signpost(signs, b"https")
        self._forwarders = list(forwarders)
        self._crowds = crowds
        self._clock = None if type(clock) is SystemClock else clock
        self._idle_s = idle_s
        self._access = log if isinstance(log, AccessLog) else None
        self._lines = log.lines if isinstance(log, AccessLog) else None
        self._log = log.write if isinstance(log, AccessLog) else log
        self._metrics = NewMetrics() if metrics is None else metrics
        self._outcome, self._no_reason = self._metrics.outcome(Outcome.HIT.value), self._metrics.reason("")
        self._rows = bytes([NO_ROUTE] * len(signs) if rows is None else rows)
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
        cdef timespec time
        if self._clock is None:
            clock_gettime(CLOCK_REALTIME, &time)
            self._now_ms = time.tv_sec * 1000 + time.tv_nsec // 1_000_000
            clock_gettime(CLOCK_MONOTONIC, &time)
            self._now = <double>time.tv_sec + <double>time.tv_nsec * 1e-9
        else:
            self._now_ms = self._clock.wall_ms()
            self._now = self._clock.monotonic()

    # ---- one answer --------------------------------------------------------------------------------------------------

    cdef bint _answer(self, Downstream client, const unsigned char *base, const Glance *seen) except -1:
        """Add the answer to this request to the write; False when it is not for this lane, or `_full`."""
        cdef const Post *post
        cdef Signpost posts
        cdef Block *found
        if seen.seen & NEVER_HERE or not self._store.usable or client._closing:
            return False
        if seen.target.length >= 8 and memcmp(base + seen.target.start, RESERVED, 8) == 0:
            return False
        if not client.approves(base + seen.host.start, seen.host.length):
            return False
        posts = self._secure_posts if client.secure else self._posts
        post = posts.choose(
            base + seen.host.start, seen.host.length, base + seen.target.start, seen.path_length
        )
        if post == NULL or not self._make_key(post, client.secure, base, seen):
            return False
        if seen.method != GET and seen.method != HEAD:
            if seen.body != CHUNKED and seen.method != OPTIONS:
                self._aim(posts, post, FORWARDED)
            return False
        # Where a client cannot force a reload, its Cache-Control changes nothing about a fresh response.
        if seen.body != NO_CONTENT or (seen.seen & CACHE_CONTROL and not post.ignore_reload):
            return False
        found = self._look_up(base, seen)
        if found == NULL:
            if self._missed and seen.method == GET and not seen.seen & (ABOUT_STORED | ASKS_MORE):
                self._onward = self._crowds.awaited(
                    self._store, self._key, self._missed, self._digest, <str>posts.backends[post.number]
                )
                if self._onward is None:
                    self._aim(posts, post, SHARED)
            return False
        if found.flags & PASSED_ON and seen.method == GET and not seen.seen & (CACHE_CONTROL | RANGE | IF_RANGE):
            self._mark_fresh_ms = freshness_of(&self._store.m, found)
            if self._mark_fresh_ms > self._now_ms and not found.flags & TOO_LARGE:
                self._aim(posts, post, MARKED)
        if found.flags & VALIDATE and not found.flags & NO_RESPONSE and found.status == 200 and seen.method == GET and not (
            seen.seen & (CACHE_CONTROL | ABOUT_STORED | ASKS_MORE) or (seen.seen & COOKIE and found.flags & COOKIELESS)
        ) and found.flags & VALIDATOR:
            # RFC 9111 5.2.2.4: by each request.
            self._aim(posts, post, VALIDATED)
            self._stale = entry_of(self._store, found)  # the pin is its own from here on
            return False
        if seen.seen & ASKS_MORE or not self._usable(client, post, seen, found) or not self._put(client, base, seen, found):
            unpin(&self._store.m, unit_of(&self._store.m, found))
            return False
        self._answers[self._count - 1].route = post.number
        return True

    cdef void _aim(self, Signpost posts, const Post *post, Errand errand) noexcept:
        """The request, which is not answered here, may be sent on at once."""
        self._onward = <Onward>self._forwarders[post.number]
        self._errand = errand

    cdef bint _make_key(self, const Post *post, bint secure, const unsigned char *base, const Glance *seen) except -1:
        """The primary key of the request's resource; see `policy.primary_key` and `resource.resource_key`."""
        cdef char *to = self._key
        self._key_length = 6 + secure + seen.host.length + seen.target.length + post.tail_length
        if self._key_length + SUFFIX > LONGEST_KEY:
            return False
        to = put(to, b"https " if secure else b"http ", 6 if secure else 5)
        to = put(to, <const char *>base + seen.host.start, seen.host.length)
        to = put(to, " ", 1)
        to = put(to, <const char *>base + seen.target.start, seen.target.length)
        put(to, post.tail, post.tail_length)
        return True

    cdef Block *_look_up(self, const unsigned char *base, const Glance *seen) except? NULL:
        """The block that the request selects under the key, pinned."""
        cdef Map *m = &self._store.m
        cdef Py_ssize_t length = self._key_length
        cdef Block *found
        cdef Block *marker
        cdef bint known
        self._digest = self._store.digest(self._key, length)
        found = shard_lookup(m, self._digest, self._key, length)
        self._missed = length if found == NULL else 0
        if found == NULL or not found.flags & MARKER:
            return found
        marker = found
        try:
            known = self._selection.suffix(self._store, marker, seen, base, <unsigned char *>self._key + length)
        finally:
            unpin(m, unit_of(m, marker))
        if not known:
            return NULL
        length += SUFFIX
        return shard_lookup(m, self._store.digest(self._key, length), self._key, length)

    cdef bint _usable(self, Downstream client, const Post *post, const Glance *seen, Block *found) noexcept:
        """Whether this request gets that response as it is: `policy.reuse` would say FRESH."""
        if found.flags & NO_PLAIN_HIT or freshness_of(&self._store.m, found) <= self._now_ms:
            return False
        if found.status < 200 or found.status == 204 or found.status == 206 or found.status == 304:
            return False
        if post.guard_cookies and seen.seen & COOKIE and found.flags & HEURISTIC and not found.flags & PUBLIC:
            return False
        if seen.seen & (IF_NONE_MATCH | IF_MODIFIED_SINCE):
            if found.status != 200 or seen.again & (IF_NONE_MATCH | IF_MODIFIED_SINCE):
                return False
        # What is packed and long is unpacked a piece at a time, at the client's pace.
        if found.codec == LZ4 and found.length > UNPACKED:
            return False
        return client._outbox._fd >= 0 or found.length <= MOST_OF_TLS

    cdef bint _put(self, Downstream client, const unsigned char *base, const Glance *seen, Block *found) except -1:
        """Put the response into the write. The pin is taken over, or given back, unless this says False."""
        cdef Condition condition = CHANGED
        cdef int64_t length = <int64_t>found.length
        cdef bint whole = not seen.is_head
        cdef size_t room = found.head_length + MOST_ADDED + 32
        cdef char *start = self._out + self._used
        cdef char *to = start
        cdef Map *m = &self._store.m
        cdef char *body = NULL
        cdef bint in_place = False
        cdef Worker *counts
        if seen.seen & (IF_NONE_MATCH | IF_MODIFIED_SINCE):
            condition = self._conditions.judge(base, seen, found)
            if condition == UNCHANGED:
                whole = False
            elif condition != CHANGED:
                return False
        if whole and (length <= SMALL or (found.codec == LZ4 and length <= UNPACKED)):
            room += length
        if self._used + room > OUT:
            self._full = self._count > 0
            return False
        if condition == UNCHANGED:
            to = put_unmodified(to, head_of(found), found.head_length)
        else:
            memcpy(to, head_of(found), found.head_length)
            to += found.head_length
        to = put_added(
            to, max(self._now_ms - born_of(found), 0) // 1000, (freshness_of(m, found) - self._now_ms) // 1000,
            -1 if condition == UNCHANGED else length,
        )
        if seen.seen & CLOSE:
            to = put(to - 2, "Connection: close\r\n\r\n", 21)
        if whole and length:
            body = body_of(found)
            if found.codec == LZ4:
                in_place = unpack_to(body, stored_of(found), to, length)
                if not in_place:
                    return False
                if found.hits >= HOT:
                    promote(self._store, found, to)
            elif length <= SMALL:
                memcpy(to, body, length)
                in_place = True
        counts = worker_at(m, m.worker)
        counts.hits += 1
        counts.hit_bytes += found.length
        if found.hits < HOT:
            found.hits += 1
        self._told(client, base, seen, 304 if condition == UNCHANGED else found.status)
        self._add_text(start, to - start + (length if in_place else 0))
        if body != NULL and not in_place:
            self._total += length
            self._add_part(body, length, found)
        else:
            unpin(m, unit_of(m, found))
        self._answers[self._count - 1].end = self._total
        return True

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
        served.client.start = <const unsigned char *>PyBytes_AS_STRING(client.address)
        served.client.length = PyBytes_GET_SIZE(client.address)
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

    cdef void _add_part(self, char *start, size_t length, Block *pinned) noexcept:
        cdef int number = self._part_count
        self._parts[number].iov_base = start
        self._parts[number].iov_len = length
        self._pinned[number] = pinned
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
        self._leave(client, max(done, 0))
        return False

    cdef bint _send_by_transport(self, Downstream client) except -1:
        cdef list chunks = []
        cdef int number
        for number in range(self._part_count):
            chunks.append(PyBytes_FromStringAndSize(<char *>self._parts[number].iov_base, self._parts[number].iov_len))
        self._unpin()
        client._outbox._queued = True
        client._outbox._transport.write(b"".join(chunks))
        self._finished(client)
        return not client.paused and not client._closing

    cdef void _unpin(self) noexcept:
        """No part points into the store any more."""
        cdef Map *m = &self._store.m
        cdef int number
        for number in range(self._part_count):
            if self._pinned[number] != NULL:
                unpin(m, unit_of(m, self._pinned[number]))
        self._part_count = 0

    cdef int _finished(self, Downstream client) except -1:
        """Count and log the answers: their last byte is on its way."""
        cdef timespec time
        cdef Served *served
        cdef int64_t before = 0
        cdef int64_t took = 0
        cdef int number
        cdef bint logged = self._log is not None and (self._lines is None or self._lines.style != OFF)
        self.hits += self._count
        if self._clock is None:
            clock_gettime(CLOCK_MONOTONIC, &time)
            took = <int64_t>((<double>time.tv_sec + <double>time.tv_nsec * 1e-9 - self._now) * 1e6)
        for number in range(self._count):
            served = &self._answers[number].served
            served.sent = self._answers[number].end - before
            before = self._answers[number].end
            self.counted(self._answers[number].route, served.status, served.sent, took)
            if not logged:
                continue
            served.time_ms = self._now_ms
            served.duration_us = took
            if self._lines is not None and (self._lines.style == CONSOLE or self._lines.style == COMBINED):
                self._lines.hit(served)
            else:
                self._log(self._record(client, number))
        if logged and self._lines is not None and self._lines.urgent():
            self._access.added()
        return 0

    cpdef void counted(self, int route, int status, int64_t sent, int64_t took_us) noexcept:
        """Count an answer whose last byte is on its way, or whose client has gone."""
        count(self._metrics.page, self._outcome, self._no_reason, PyBytes_AS_STRING(self._rows)[route], status, sent)
        observe(&self._metrics.page.hits, took_us)

    cdef object _record(self, Downstream client, int number):
        """The answer for a log that takes records."""
        cdef Answer *answer = &self._answers[number]
        cdef Served *served = &answer.served
        return AccessRecord(
            time_ms=self._now_ms,
            method=bytes_of(served.method),
            scheme=b"https" if client.secure else b"http",
            host=bytes_of(served.host),
            path=bytes_of(served.path),
            version=11,
            status=served.status,
            bytes_sent=served.sent,
            duration_ms=served.duration_us / 1000,
            client=bytes_of(served.client).decode(),
            request_id=identity(bytes_of(answer.request_id)),
            outcome="hit",
            backend=self._posts.backends[answer.route],
            user_agent=bytes_of(served.user_agent),
            referer=bytes_of(served.referer),
        )

    cdef int _leave(self, Downstream client, int64_t done) except -1:
        """The socket took `done` bytes: the rest becomes the connection's business, pins and all."""
        cdef list chunks = []
        cdef list records = []
        cdef int64_t skipped = done
        cdef int64_t length
        cdef int64_t before = 0
        cdef int number
        for number in range(self._part_count):
            length = self._parts[number].iov_len
            if self._pinned[number] != NULL:
                view = memoryview(
                    piece_of(self._store, self._pinned[number], <char *>self._parts[number].iov_base, length)
                )
                self._pinned[number] = NULL  # the piece has it
            else:
                view = PyBytes_FromStringAndSize(<char *>self._parts[number].iov_base, length)
            if skipped >= length:
                skipped -= length
                continue
            chunks.append(view if not skipped else memoryview(view)[skipped:])
            skipped = 0
        self._part_count = 0
        self.hits += self._count
        for number in range(self._count):
            end = self._answers[number].end
            records.append((self._record(client, number), self._answers[number].route, before, end))
            before = end
        client._outbox.sent = done
        client._occupant = Remainder(
            self.counted, self._log, records, client._outbox, self._now, self._clock or SystemClock()
        )
        (<Connection>client).send_rest(chunks)
        return 0


cdef inline char *put(char *to, const char *text, size_t length) noexcept nogil:
    memcpy(to, text, length)
    return to + length


cdef inline Text text_at(const unsigned char *base, Span span) noexcept nogil:
    cdef Text text
    text.start = base + span.start
    text.length = span.length
    return text


cdef bytes bytes_of(Text text):
    return PyBytes_FromStringAndSize(<const char *>text.start, text.length)
