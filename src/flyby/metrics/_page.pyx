# cython: language_level=3
# cython: boundscheck=False, wraparound=False, cdivision=True
"""`Metrics`, who counts in a page, and `snapshot_of`, which reads one; the page itself is laid out in `_page.pxd`.

A page that another process has counted in is gone on with: its words keep their rows. A process that is killed between
two of the stores of one request leaves that request counted in some tables and not in others, and nothing else.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from flyby.metrics.snapshot import Latency, MetricsSnapshot

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *text, size_t most)

# A page takes whole pages of the processor's, so that workers share no cache line.
STRIDE = (sizeof(Page) + 4095) // 4096 * 4096
SIZE = sizeof(Page)
NO_ROUTE = ROUTES - 1  # the row of a request that no route took, or whose route found no row
NAMED_ROUTES = ROUTES - 1  # as many routes have a row of their own


@cython.final
cdef class Metrics:
    """The counters of one worker, in `memory` that others may read; without it, in memory of its own."""

    def __cinit__(self, memory=None):
        self._memory = bytearray(STRIDE) if memory is None else memory
        if self._memory.shape[0] < <Py_ssize_t>sizeof(Page):
            raise ValueError(f"a page takes {sizeof(Page)} bytes")
        self.page = <Page *>&self._memory[0]
        self.page.connections_open = 0  # those of the process before have ended with it
        self._outcomes, self._reasons, self._routes, self._refusals = {}, {}, {}, {}

    def __repr__(self):
        return f"<Metrics of {self.snapshot().requests} requests>"

    # ---- the rows of words -------------------------------------------------------------------------------------------

    cpdef int outcome(self, str word) except -1:
        """The row of an outcome, taken when it is first asked for."""
        return row_of(&self.page.outcome_words[0][0], OUTCOMES, WORD, self._outcomes, word)

    cpdef int reason(self, str word) except -1:
        """The row of a reason, likewise."""
        return row_of(&self.page.reason_words[0][0], REASONS, WORD, self._reasons, word)

    cpdef int route(self, str name) except -1:
        """The row of a route; `NO_ROUTE` when all are taken."""
        return row_of(&self.page.route_words[0][0], ROUTES, ROUTE_WORD, self._routes, name)

    # ---- counting ----------------------------------------------------------------------------------------------------

    def count(self, str outcome not None, str reason not None, int route=NO_ROUTE, int status=0,
              long long sent=0, double seconds=-1, bint stored=False, double origin_s=-1):
        """Count one request that has had its response, of `status` and `sent` bytes; `reason` is "" for none.

        It took `seconds`, and the origin `origin_s` until its first byte; what is negative is not known. `stored`: the
        response came from the store.
        """
        if not 0 <= route < ROUTES:
            route = ROUTES - 1
        count(self.page, self.outcome(outcome), route, max(status, 0), max(sent, 0))
        if reason:
            self.page.reasons[self.reason(reason)] += 1
        if seconds >= 0:
            observe(&self.page.hits if stored else &self.page.others, <uint64_t>(seconds * 1e6))
        if origin_s >= 0:
            observe(&self.page.origins, <uint64_t>(origin_s * 1e6))

    def counter(self, str outcome not None, str reason not None):
        """Who counts such requests often, and not from the store, by rows instead of words."""
        cdef Counter counter = Counter.__new__(Counter)
        counter._metrics = self
        counter._outcome = self.outcome(outcome)
        counter._reason = self.reason(reason) if reason else -1
        return counter

    def refuse(self, str reason not None):
        """Count one head that is no request as flyby accepts it."""
        self.page.refusals[
            row_of(&self.page.refusal_words[0][0], REFUSALS, WORD, self._refusals, reason)
        ] += 1

    def opened(self):
        """Count a client's connection, which is open from now on."""
        self.page.connections_total += 1
        self.page.connections_open += 1

    def closed(self):
        """One of them has been closed."""
        self.page.connections_open -= 1

    def snapshot(self):
        """What is counted in the page now."""
        return snapshot_of(self._memory)


@cython.final
cdef class Counter:
    """Requests of one outcome, for one reason; made by `Metrics.counter`."""

    cpdef void add(
        self, unsigned int route, unsigned int status, uint64_t sent, int64_t us, int64_t origin_us
    ) noexcept:
        """Count one request of a route's row, as `Metrics.count` does; it took `us` microseconds."""
        cdef Page *page = self._metrics.page
        count(page, self._outcome, route if route < ROUTES else <unsigned int>ROUTES - 1, status, sent)
        if self._reason >= 0:
            page.reasons[self._reason] += 1
        observe(&page.others, <uint64_t>max(us, 0))
        if origin_us >= 0:
            observe(&page.origins, <uint64_t>origin_us)


cdef int row_of(char *words, int rows, int size, dict known, str word) except -1:
    """The row of `word` among `words`; the next free one becomes its own, and the last is that of all that find none.

    A word is known by as many bytes as fit. Its first byte is written last: a row has its whole word or none.
    """
    cdef int row
    cdef char *at
    cdef bytes text
    cdef char[ROUTE_WORD] whole
    found = known.get(word)
    if found is not None:
        return found
    text = word.encode("utf-8", "replace")[: size - 1] or b"-"
    memset(whole, 0, size)
    memcpy(whole, <const char *>text, len(text))
    for row in range(rows - 1):
        at = words + row * size
        if at[0] == 0:
            memcpy(at + 1, &whole[1], size - 1)
            (<volatile char *>at)[0] = whole[0]
        if memcmp(at, whole, size) == 0:
            known[word] = row
            return row
    return rows - 1


def bucket(uint64_t us):
    """The number of the bucket that counts this duration; see `Latency`."""
    return bucket_of(us)


# ---- reading ---------------------------------------------------------------------------------------------------------


def snapshot_of(const unsigned char[::1] memory not None):
    """What is counted in this page, by words; rows without a request are left out."""
    cdef Page page
    if memory.shape[0] < <Py_ssize_t>sizeof(Page):
        raise ValueError(f"a page takes {sizeof(Page)} bytes")
    copy(<uint64_t *>&page, <const uint64_t *>&memory[0], sizeof(Page) // 8)
    outcomes = words_of(&page.outcome_words[0][0], OUTCOMES, WORD)
    reasons = words_of(&page.reason_words[0][0], REASONS, WORD)
    refusals = words_of(&page.refusal_words[0][0], REFUSALS, WORD)
    statuses = {}
    routes = {}
    for row in range(OUTCOMES):
        counts = tuple([page.requests[row][first] for first in range(CLASSES)])
        if any(counts):
            statuses[outcomes[row]] = counts
    for route, name in enumerate(words_of(&page.route_words[0][0], ROUTES, ROUTE_WORD)):
        counts = {outcomes[row]: page.routes[route][row] for row in range(OUTCOMES) if page.routes[route][row]}
        if counts:
            routes[name] = counts
    return MetricsSnapshot(
        statuses=statuses,
        reasons={reasons[row]: page.reasons[row] for row in range(REASONS) if page.reasons[row]},
        sent={outcomes[row]: page.sent[row] for row in range(OUTCOMES) if page.sent[row]},
        routes=routes,
        refusals={refusals[row]: page.refusals[row] for row in range(REFUSALS) if page.refusals[row]},
        hits=latency_of(&page.hits),
        others=latency_of(&page.others),
        origins=latency_of(&page.origins),
        connections_total=page.connections_total,
        connections_open=page.connections_open,
    )


cdef void copy(uint64_t *to, const uint64_t *there, size_t words) noexcept nogil:
    """Copy whole words: one that is written meanwhile is read as it was, or as it is then."""
    cdef size_t number
    for number in range(words):
        to[number] = (<const volatile uint64_t *>there)[number]


cdef list words_of(const char *words, int rows, int size):
    """The word of each row; "other" for the last, and for one that is not taken.

    Another user's process may have written them, and a terminal may be shown them: what does not print becomes "?".
    """
    cdef int row
    cdef const char *at
    cdef list found = []
    for row in range(rows):
        at = words + row * size
        word = at[: strnlen(at, size)].decode("utf-8", "replace")
        found.append("".join([each if each.isprintable() else "?" for each in word]) or "other")
    return found


cdef object latency_of(const Histogram *histogram):
    return Latency(tuple([histogram.buckets[number] for number in range(BUCKETS)]), histogram.sum_us)
