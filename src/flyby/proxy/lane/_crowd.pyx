# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The followers' lane: plain requests for what is being fetched, in one worker; see `follow` for all others.

    Lane: a whole plain GET, and nothing lies under its key ── nobody fetches that ✗ ──▶ the long way: it will fetch
      ▼
    Crowd (one Fill)   Follower  Follower  Follower …      no exchange, no Task: a client, and the bytes of its request
      │ the Fill moves (at once in the owner's process, by the store's bell in others): `advance`, once a loop's turn
      ▼
    head │ first content      one sendmsg(2) each, of the same bytes ── the socket took a part: the transport has the
    content …                                     "                     rest; is it full, a `Delivery` goes on alone
    content │ end                                 "
      └─▶ only then is each recorded, and its connection ready for the next request

Everybody in a crowd has been given the content up to the same offset; who comes once the head has been sent begins
another crowd. The first step gives everybody a little, before anybody gets more. A head whose content is not there yet
waits for it for a moment, for one write instead of two.

Nothing is decided here that the long way would decide otherwise. A response is a follower's own when a hit on it would
be: by its key, or by what Vary selects. Who cannot be answered so (another variant, purged meanwhile, statuses without
content, a fetch that failed, was not for sharing, or lost its owner) goes the long way: an exchange takes over, and is
told how the fetch ended.
"""

import asyncio
import logging

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp

from flyby.policy import Outcome, Reason
from flyby.errors import UpstreamError
from flyby.proxy.fetching.delivery import Delivery
from flyby.proxy.fetching.ended import Ended
from flyby.proxy.decision.decide import resume
from flyby.proxy.stored.hit import collapsed_head
from flyby.wire import CHUNK_END as _CHUNK_END
from flyby.wire import BodyKind, chunk_head, last_chunk

from flyby.policy.entry import EntryFlag
from flyby.proxy.http1._connection cimport Connection
from flyby.proxy.road._downstream cimport Downstream, Onward, Sight
from flyby.proxy.road._exchange cimport Exchange, exchange_of
from flyby.proxy.road._outbox cimport Outbox, iovec, joined
from flyby.proxy.stored._selection cimport Selection
from flyby.store._serve cimport (
    FILL_COMPLETE, FILL_EMPTY, FILL_FAILED, Attachment, Digest, Fill, serve_available, serve_join, serve_length,
    serve_mark, serve_missed, serve_older, serve_purged, serve_state,
)
from flyby.wire._glance cimport CLOSE, COOKIE, glance_limits

cdef enum:
    FIRST = 16_384  # bytes of content that everybody gets before anybody gets more
    PIECE = 61_440  # at a time, so that with what is around it the kernel is given it in one call
    PARTS = 5

LINGER_S = 0.001  # how long a head waits for its content

cdef object LENGTH = BodyKind.LENGTH
cdef object CHUNKED = BodyKind.CHUNKED
cdef bytes CHUNK_END = _CHUNK_END
cdef bytes LAST_CHUNK = last_chunk(None)
cdef uint32_t NO_CACHE = EntryFlag.NO_CACHE
cdef uint32_t SET_COOKIE = EntryFlag.SET_COOKIE
cdef uint32_t COOKIELESS = EntryFlag.COOKIELESS

logger = logging.getLogger("flyby.proxy")


@cython.final
cdef class Crowds:
    """The crowds of one worker, under one configuration."""

    def __init__(self, context, limits):
        self.context = context
        self._limits = limits
        for number, scheme in enumerate((b"http", b"https")):
            glance_limits(limits, scheme, &self._glances[number])
        self._selection = Selection()
        self._open = {}

    cdef Crowd awaited(
        self, Attachment store, const char *key, Py_ssize_t length, Digest digest, str backend, object rules
    ):
        """The crowd that waits for the response under that primary key; None when nobody fetches it.

        `rules` are those of the request's route: requests under other rules are another crowd.
        """
        cdef Crowd crowd = self._open.get(digest.low)
        cdef Fill fill
        if crowd is not None and crowd._takes(key, length, rules):
            return crowd
        fill = serve_join(store, key, <uint32_t>length, digest)
        if fill is None:
            return None
        crowd = Crowd.__new__(Crowd)
        crowd._crowds = self
        crowd._store = store
        crowd._fill = fill
        crowd._told = crowd.moved
        crowd._loop = asyncio.get_running_loop()
        crowd._backend = backend
        crowd._rules = rules
        crowd._key = PyBytes_FromStringAndSize(key, length)
        crowd._name = digest.low
        crowd._patience = self.context.config.cache.collapse_wait_s
        crowd._followers = []
        self._open[crowd._name] = crowd
        crowd._timer = crowd._loop.call_later(crowd._patience, crowd.overdue)
        fill.subscribe(crowd._told)
        crowd.moved()
        return crowd


@cython.final
cdef class Crowd(Onward):
    """Those who wait for one Fill, and then read it in step."""

    def __repr__(self):
        return f"<Crowd of {self._count} at {self._offset} of {self._fill!r}>"

    # ---- who joins ---------------------------------------------------------------------------------------------------

    cdef bint _takes(self, const char *key, Py_ssize_t length, object rules) except -1:
        """Whether a request for that key may join now: what `Store.claim` asks, too."""
        if self._begun or self._rules is not rules or self._fill is None or serve_state(self._fill) >= FILL_COMPLETE:
            return False
        if PyBytes_GET_SIZE(self._key) != length or memcmp(PyBytes_AS_STRING(self._key), key, length):
            return False
        return not serve_purged(self._fill)

    cdef Py_ssize_t begin(self, Downstream client, const Sight *sight) except -1:
        """Let the request wait here."""
        cdef Follower follower = Follower.__new__(Follower)
        if self._fill is None:
            return 0
        serve_missed(self._store, True)
        follower._crowd = self
        follower._client = <Connection?>client
        follower._exchange = exchange_of(self._crowds.context, client, sight.base, sight.seen, sight.now)
        follower._exchange.backend_name = self._backend
        follower._exchange.source = follower
        follower._since = serve_mark(self._store)
        follower._cookies = sight.seen.seen & COOKIE
        follower._here = True
        client.engage(follower._exchange, not sight.seen.seen & CLOSE)
        self._followers.append(follower)
        self._count += 1
        return sight.seen.length

    # ---- what the Fill, the loop and the clock tell ------------------------------------------------------------------

    def moved(self):
        """The Fill has moved. What it did within one turn of the loop is looked at once, when the owner is through."""
        if not self._due and self._fill is not None:
            self._due = True
            self._loop.call_soon(self.advance)

    def advance(self):
        """Look at the Fill, and give everybody what is new."""
        self._due = False
        if self._fill is None:
            return
        try:
            self._go_on()
        except Exception:
            logger.exception("a fault in flyby itself, while %r", self)
            self._break_off()

    def overdue(self):
        """Let those go on that have waited for a sign of the fetch for as long as a request waits for one."""
        cdef Follower follower
        cdef double now = self._crowds.context.clock.monotonic()
        late = []
        wait = -1.0
        for follower in self._followers:
            if not follower._here:
                continue
            if max(follower._exchange.started, self._heard) + self._patience <= now:
                late.append(follower)
            elif wait < 0:
                wait = max(follower._exchange.started, self._heard) + self._patience - now
        if wait >= 0:
            self._timer = self._loop.call_later(wait, self.overdue)
        else:
            self._close()
        self._release(late, Ended.STALLED)
        if not self._count:
            self._disperse()

    cdef int _go_on(self) except -1:
        cdef Fill fill = self._fill
        cdef uint32_t state = serve_state(fill)
        if not self._begun:
            if state == FILL_EMPTY:
                self._heard = self._crowds.context.clock.monotonic()  # an interim response
                return 0
            if state == FILL_FAILED:
                reason = Ended(fill.reason)
                self._close()
                return self._release(self._followers, reason) if self._count else self._disperse()
            if state != FILL_COMPLETE and not self._lingered and not serve_available(fill):
                self._lingered = True
                self._loop.call_later(LINGER_S, self._told)
                return 0
            self._begun = True
            self._begin()
        if self._count:
            self._send(state)
        elif self._begun:
            self._disperse()
        return 0

    # ---- the head ----------------------------------------------------------------------------------------------------

    cdef int _begin(self) except -1:
        """The head is known: make it once for all, and part from those whose response this is not."""
        cdef Fill fill = self._fill
        cdef Follower follower
        cdef bint purged = serve_purged(fill)
        cdef int64_t length = serve_length(fill)
        cdef bint shared
        cdef bint cookieless
        cdef bytes suffix = None
        cdef list others = []
        self._close()
        self.status = fill.status
        self._head = collapsed_head(fill, self._crowds.context.clock.wall_ms())
        self._head += b"Transfer-Encoding: chunked\r\n" if length < 0 else b"Content-Length: %d\r\n" % length
        self._framing = CHUNKED if length < 0 else LENGTH
        # Under the claimed key, or under that of a variant of it; never a part.
        if fill.key != self._key:
            suffix = fill.key[len(self._key) :] if fill.key.startswith(self._key) else b""
        # `policy.may_join`; none of these requests has Authorization.
        shared = not fill.flags & NO_CACHE and (self._rules.keeps_set_cookie or not fill.flags & SET_COOKIE)
        cookieless = fill.flags & COOKIELESS and self._rules.points.guard_cookies
        for follower in self._followers:
            if follower._here and (
                self.status < 200 or self.status == 204 or self.status == 206 or self.status == 304
                or not shared or (cookieless and follower._cookies)
                or (purged and serve_older(fill, follower._since))
                or (suffix is not None and not self._crowds._selection.selects(
                    self._store, self._key, suffix, follower._exchange.text,
                    &self._crowds._glances[follower._client.secure],
                ))
            ):
                others.append(follower)
        if others:
            # They look again for what is stored or under way, once those have been served whose response this is.
            self._loop.call_soon(self.part, others)
            for follower in others:
                self._gone(follower)
        return 0

    def part(self, list others):
        """Send those the long way who have another response to wait for."""
        self._release(others, Ended.LOST)

    # ---- the content -------------------------------------------------------------------------------------------------

    cdef int _send(self, uint32_t state) except -1:
        """Give everybody the head, or the next piece, or both; and the end, if the Fill was complete in `state`."""
        cdef Fill fill = self._fill
        cdef const unsigned char[::1] piece
        cdef Follower follower
        cdef iovec parts[PARTS]
        cdef int count = 0
        cdef bytes size
        cdef bytes closing = b""
        cdef list behind = []
        cdef Py_ssize_t length
        cdef bint last
        view = fill.read(self._offset, PIECE if self._headed else FIRST)
        length = len(view)
        last = state == FILL_COMPLETE and self._offset + length == serve_available(fill)
        if not length and not last:
            # Of a body that outgrew the store only a window can be read, which goes on without who is too slow.
            if fill.lost(self._offset):
                return self._break_off() if self._headed else self._release(self._followers, Ended.LOST)
            if self._headed:
                return self._break_off() if state == FILL_FAILED else 0
        if not self._headed:
            add(parts, &count, PyBytes_AS_STRING(self._head), PyBytes_GET_SIZE(self._head))
            add(parts, &count, NULL, 0)  # how the head ends is each one's own
        if length:
            piece = view
            if self._framing is CHUNKED:
                size = chunk_head(length)
                add(parts, &count, PyBytes_AS_STRING(size), PyBytes_GET_SIZE(size))
                closing = CHUNK_END
            add(parts, &count, <const char *>&piece[0], length)
        if last and self._framing is CHUNKED:
            closing += LAST_CHUNK
        if closing:
            add(parts, &count, PyBytes_AS_STRING(closing), PyBytes_GET_SIZE(closing))
        self._offset += length
        for follower in self._followers:
            if follower._here and self._give(follower, parts, count):
                behind.append(follower)
        self._headed = True
        if last:
            for follower in self._followers:
                if follower._here:
                    self._gone(follower)
                    follower._exchange.source = None
                    follower._client._finish()
            return 0
        if self._offset < serve_available(fill) or state == FILL_FAILED:
            self.moved()
        for follower in behind:
            self._hand_over(follower)
        return 0

    cdef bint _give(self, Follower follower, iovec *parts, int count) except -1:
        """Send the parts to one of them; whether it takes no more for now, and falls behind the others."""
        cdef Connection client = follower._client
        cdef Outbox outbox = client._outbox
        cdef int64_t done = 0
        cdef size_t total = 0
        cdef bytes ending
        cdef int number
        if client._closing or outbox._transport.is_closing():
            return False
        if not self._headed:
            ending = client._connection_field() + b"\r\n"
            client.begun = True
            client._framing = self._framing
            follower._exchange.note(Outcome.MISS, Reason.COLLAPSED, self.status)
            parts[1].iov_base = PyBytes_AS_STRING(ending)
            parts[1].iov_len = PyBytes_GET_SIZE(ending)
        for number in range(count):
            total += parts[number].iov_len
        if outbox._fd >= 0 and outbox.clear_way():
            done = outbox.gather(parts, count, total)
            if done < 0:
                client._closing = True
                return False
        outbox.sent += total
        if <size_t>done < total:
            outbox._queued = True
            outbox._transport.write(joined(parts, count, done))
        return client.paused

    # ---- who leaves --------------------------------------------------------------------------------------------------

    cdef int _hand_over(self, Follower follower) except -1:
        """Let a client that is behind go on at its own pace."""
        cdef Connection client = follower._client
        delivery = Delivery(self._fill.follow(), client, (<object>client).end, follower.cut_off, self._offset)
        follower._exchange.source = delivery
        self._gone(follower)
        delivery.start()
        return 0

    cdef int _gone(self, Follower follower) except -1:
        """It is the crowd's business no more. With the last one that was waiting the crowd disperses."""
        follower._here = False
        self._count -= 1
        if not self._count:
            self._disperse()
        return 0

    cdef int _release(self, list followers, ended) except -1:
        """Let exchanges go on with those of them whose clients are still there; the fetch has `ended` so for them."""
        cdef Follower follower
        for follower in followers:
            if follower._here:
                self._gone(follower)
            if not follower._exchange.gone:
                follower.resume(ended)
        return 0

    cdef int _break_off(self) except -1:
        cdef Follower follower
        for follower in self._followers:
            if follower._here:
                self._gone(follower)
                follower.cut_off()
        return 0

    cdef int _close(self) except -1:
        """Nobody joins any more, and nobody is to be freed by the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._crowds._open.get(self._name) is self:
            del self._crowds._open[self._name]
        return 0

    cdef int _disperse(self) except -1:
        cdef Fill fill = self._fill
        self._close()
        if fill is not None:
            self._fill = None
            fill.release()
            self._told = None
        self._followers = []
        return 0


@cython.final
cdef class Follower:
    """One request that waits in a crowd: the source of its exchange until it is answered, or goes on alone."""

    cdef int resume(self, ended) except -1:
        """The response that was waited for is not this request's: take the general path."""
        cdef Exchange exchange = self._exchange
        exchange.source = None
        self._client.answer_in_full(exchange.request)
        exchange.run_step(resume, exchange, ended)
        return 0

    def cut_off(self):
        """The shared fetch broke off."""
        self._exchange.cut_off(
            UpstreamError(502, "incomplete", "http_response_incomplete", "the shared fetch broke off")
        )

    def client_left(self):
        """The client has gone."""
        if self._here:
            self._crowd._gone(self)

    def client_ended(self):
        """A half-closed client waits on: the fetch is another's."""


cdef inline void add(iovec *parts, int *count, const char *start, size_t length) noexcept nogil:
    parts[count[0]].iov_base = <void *>start
    parts[count[0]].iov_len = length
    count[0] += 1
