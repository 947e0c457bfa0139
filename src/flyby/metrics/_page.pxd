# cython: language_level=3
"""The map of a worker's page of counters, and the two steps of counting.

    requests   outcome × class of the status     │  one request adds one to each of these four (without a reason, to
    routes     route × outcome                   │  three), and its bytes to `sent`
    reasons    why it was not a plain hit        │
    latencies  log-linear, see `bucket_of`       │
    refusals   heads that could not be read, by reason
    the names of the rows above, and what is open now

A row is a small integer. Outcomes, reasons, routes and refusals are words to everybody else: each page has the word of
each row beside it, written when the word is first used, so a reader needs no table of its own and two workers may
number their rows differently. The last row of each table has no word: it counts what found no row.

Each page has one writer, which changes its words of 8 bytes by plain loads and stores: no lock, no system call.
"""

from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long) noexcept nogil

cdef enum:
    OUTCOMES = 16
    CLASSES = 6       # of the status: its first digit, 0 where that is none of 1 to 5
    REASONS = 64
    ROUTES = 32
    REFUSALS = 64
    WORD = 32         # bytes of a word, the zero behind it included
    ROUTE_WORD = 64   # the same for the name of a route
    STEPS = 5         # buckets of an octave
    OCTAVES = 30      # from 1 µs to 2**30 µs, which is 1,074 s
    BUCKETS = 151     # those, and one for what took longer

cdef struct Histogram:
    uint64_t sum_us
    uint64_t buckets[BUCKETS]

cdef struct Page:
    uint64_t requests[OUTCOMES][CLASSES]
    uint64_t sent[OUTCOMES]            # bytes of heads and content that the clients were given
    uint64_t reasons[REASONS]
    uint64_t routes[ROUTES][OUTCOMES]
    uint64_t refusals[REFUSALS]
    Histogram hits                     # of whole responses from the store
    Histogram others                   # of all other whole responses
    Histogram origins                  # from the request's sending to the first byte of the origin's response
    uint64_t connections_total
    uint64_t connections_open          # by the process that writes now
    char outcome_words[OUTCOMES][WORD]
    char reason_words[REASONS][WORD]
    char route_words[ROUTES][ROUTE_WORD]
    char refusal_words[REFUSALS][WORD]


cdef inline int bucket_of(uint64_t us) noexcept nogil:
    """The bucket of a duration: 5 equal steps from each power of two to the next; 0 µs is counted as 1."""
    cdef int octave = 63 - leading_zeros(us | 1)
    if octave >= OCTAVES:
        return BUCKETS - 1
    return STEPS * octave + <int>(((us & ~(<uint64_t>1 << octave)) * STEPS) >> octave)


cdef inline void observe(Histogram *histogram, uint64_t us) noexcept nogil:
    """Count one duration."""
    histogram.buckets[bucket_of(us)] += 1
    histogram.sum_us += us


cdef inline void count(
    Page *page, unsigned int outcome, unsigned int route, unsigned int status, uint64_t sent
) noexcept nogil:
    """Count one request; outcome and route are rows of this page."""
    cdef unsigned int first = status // 100
    page.requests[outcome][first if first < CLASSES else 0] += 1
    page.routes[route][outcome] += 1
    page.sent[outcome] += sent


cdef class Metrics:
    cdef Page *page
    cdef unsigned char[::1] _memory  # in which the page lies
    cdef dict _outcomes              # the row of each word that is known
    cdef dict _reasons
    cdef dict _routes
    cdef dict _refusals

    cpdef int outcome(self, str word) except -1
    cpdef int reason(self, str word) except -1
    cpdef int route(self, str name) except -1


cdef class Counter:
    cdef Metrics _metrics
    cdef unsigned int _outcome   # rows in its page
    cdef int _reason             # -1: none

    cpdef void add(
        self, unsigned int route, unsigned int status, uint64_t sent, int64_t us, int64_t origin_us
    ) noexcept
