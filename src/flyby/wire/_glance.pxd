# cython: language_level=3
"""The map of a glance at a request: offsets into the bytes that were read, and no Python object.

    GET /a?b HTTP/1.1\\r\\nHost: shop.test\\r\\nAccept: */*\\r\\n\\r\\n
        └─target─┘             └──host──┘   └name─┘ └value       length: behind the last byte
"""

cdef enum:
    MOST_FIELDS = 64  # a head with more of them is not recognised

# What is told about the fields that decide something. A bit of `seen` each; of `again` where there are two such lines.
cdef enum:
    OTHER = 0
    HOST = 1
    CONNECTION = 2  # its value was `keep-alive`; any other is not recognised
    COOKIE = 4
    AUTHORIZATION = 8
    CACHE_CONTROL = 16
    RANGE = 32  # also If-Range
    IF_NONE_MATCH = 64
    IF_MODIFIED_SINCE = 128
    PRECONDITION = 256  # If-Match, If-Unmodified-Since
    CDN_LOOP = 512
    USER_AGENT = 1024
    REFERER = 2048
    ACCEPT_ENCODING = 4096
    REQUEST_ID = 8192  # X-Request-Id
    FRAMING = 16384  # Content-Length, Transfer-Encoding, Expect, Upgrade: never recognised

cdef struct Span:
    unsigned int start
    unsigned int length

cdef struct GlanceLimits:
    Py_ssize_t line  # bytes of a line with its CRLF
    Py_ssize_t block  # bytes of the head
    int fields
    int default_port  # of the connection's scheme; no Host names it

cdef struct Glance:
    Py_ssize_t length  # of the head
    bint is_head  # HEAD, else GET
    unsigned int seen
    unsigned int again
    Span target  # path and query
    unsigned int path_length  # of the target up to its `?`
    Span host  # in its one spelling
    Span if_none_match
    Span if_modified_since
    Span user_agent
    Span referer
    Span request_id
    int count
    Span names[64]  # as sent
    Span values[64]  # without the white space around them

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    /* Names are compared eight bytes at a time, or four; the last piece overlaps the one before. */
    static inline int fb_named(const unsigned char *name, const char *lower, ptrdiff_t length)
    {
        const uint64_t cases = 0x2020202020202020u;
        uint64_t one, other;
        uint32_t half, other_half;
        ptrdiff_t at = 0;
        if (length >= 8) {
            for (; at < length - 8; at += 8) {
                memcpy(&one, name + at, 8);
                memcpy(&other, lower + at, 8);
                if ((one | cases) != other)
                    return 0;
            }
            memcpy(&one, name + length - 8, 8);
            memcpy(&other, lower + length - 8, 8);
            return (one | cases) == other;
        }
        if (length >= 4) {
            memcpy(&half, name, 4);
            memcpy(&other_half, lower, 4);
            if ((half | (uint32_t)cases) != other_half)
                return 0;
            memcpy(&half, name + length - 4, 4);
            memcpy(&other_half, lower + length - 4, 4);
            return (half | (uint32_t)cases) == other_half;
        }
        for (; at < length; at++)
            if ((name[at] | 0x20) != (unsigned char)lower[at])
                return 0;
        return 1;
    }

    /* The first byte from `at` on that no field value may hold, or that is left when fewer than sixteen are. */
    static inline ptrdiff_t fb_value(const unsigned char *base, ptrdiff_t at, ptrdiff_t end)
    {
    #if defined(__SSE2__)
        const __m128i last = _mm_set1_epi8(0x1F), tab = _mm_set1_epi8(9), del = _mm_set1_epi8(0x7F);
        for (; end - at >= 16; at += 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(base + at));
            __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last), bytes);
            __m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), low), _mm_cmpeq_epi8(bytes, del));
            int mask = _mm_movemask_epi8(bad);
            if (mask)
                return at + __builtin_ctz((unsigned)mask);
        }
    #endif
        (void)base;
        (void)end;
        return at;
    }
    """
    # Whether a name is `lower` in any case. All bytes of `lower` have the bit 0x20; of the bytes that a name can hold,
    # only a letter's other case meets it under that bit.
    bint named "fb_named"(const unsigned char *name, const char *lower, Py_ssize_t length) noexcept nogil
    Py_ssize_t after_value "fb_value"(const unsigned char *base, Py_ssize_t at, Py_ssize_t end) noexcept nogil

cdef void glance_limits(object limits, bytes scheme, GlanceLimits *to)
cdef bytes cut(bytes data, Span span)
cdef bint glance(const unsigned char *base, Py_ssize_t end, const GlanceLimits *limits, Glance *to) noexcept nogil
