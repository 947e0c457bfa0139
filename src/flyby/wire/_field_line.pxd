# cython: language_level=3
"""One field line as offsets into the bytes that were read (RFC 9112 5): the loop that both glances share.

    Accept: text/html \\r\\n        what is returned is the offset behind the CRLF
    └name┘  └─value─┘

A line is recognised in its strict form only: a token, a colon at once, white space that is not part of the value, a
value without control bytes, CRLF. Anything else, and a line that has not arrived whole, is NOT_RECOGNISED; the full
parser then says what is wrong with it.
"""

from flyby.wire._classes cimport CLASSES, DIGIT, TOKEN, VALUE

cdef enum:
    NOT_RECOGNISED = -1

cdef struct Span:
    unsigned int start
    unsigned int length

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


cdef inline Py_ssize_t field_line(
    const unsigned char *base, Py_ssize_t at, Py_ssize_t end, Py_ssize_t limit, Span *name, Span *value
) noexcept nogil:
    """Read the line at `at` into `name` and `value`; return where the next one begins, or NOT_RECOGNISED.

    `limit` counts the line with its CRLF. The empty line that ends a section has a name of length 0; no other has.
    """
    cdef Py_ssize_t line = at
    cdef Py_ssize_t begin
    name.start = <unsigned int>line
    while at < end and CLASSES[base[at]] & TOKEN:
        at += 1
    name.length = <unsigned int>(at - line)
    if at == line:
        if end - at < 2 or base[at] != c"\r" or base[at + 1] != c"\n":
            return NOT_RECOGNISED
        return at + 2
    if at == end or base[at] != c":":
        return NOT_RECOGNISED
    at += 1
    while at < end and (base[at] == c" " or base[at] == c"\t"):
        at += 1
    begin = at
    at = after_value(base, at, end)
    while at < end and CLASSES[base[at]] & VALUE:
        at += 1
    if end - at < 2 or base[at] != c"\r" or base[at + 1] != c"\n" or at + 2 - line > limit:
        return NOT_RECOGNISED
    line = at
    while line > begin and (base[line - 1] == c" " or base[line - 1] == c"\t"):
        line -= 1
    value.start = <unsigned int>begin
    value.length = <unsigned int>(line - begin)
    return at + 2


cdef inline bint plainest(const unsigned char *base, Py_ssize_t after, Span name, Span value) noexcept nogil:
    """Whether a line that ends before `after` is `name: value`: one space before the value and nothing behind it.

    Fields that frame a message or end its connection are recognised in this form alone.
    """
    cdef unsigned int colon = name.start + name.length
    return value.start == colon + 2 and base[colon + 1] == c" " and value.start + value.length + 2 == after


cdef inline long long decimal(const unsigned char *text, Py_ssize_t length) noexcept nogil:
    """The number that 1 to 18 digits say, which always fits; -1 for anything else."""
    cdef long long number = 0
    cdef Py_ssize_t index
    if not 1 <= length <= 18:
        return -1
    for index in range(length):
        if not CLASSES[text[index]] & DIGIT:
            return -1
        number = number * 10 + text[index] - c"0"
    return number
