# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The two conditions that the fast lane judges: has what the client holds changed? (RFC 9110 13.1.2, 13.1.3)

If-None-Match with one well-formed entity tag is compared with the stored ETag; If-Modified-Since that is byte for byte
the stored Last-Modified needs no arithmetic on dates. All else is UNCLEAR, and policy's `evaluate` judges it; the tests
let it judge these too.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memchr, memcmp

from flyby.policy import parse_http_date

from flyby.store._layout cimport head_of
from flyby.wire._glance cimport IF_NONE_MATCH, named

cdef enum:
    MOST_DATES = 4096


@cython.final
cdef class Conditions:
    def __cinit__(self):
        self._dates = set()

    cdef Condition judge(self, const unsigned char *base, const Glance *seen, Block *found) except *:
        """The request's condition: If-Modified-Since counts for nothing beside If-None-Match (RFC 9110 13.2.2)."""
        cdef bytes date
        if seen.seen & IF_NONE_MATCH:
            return none_match(
                base + seen.if_none_match.start, seen.if_none_match.length, head_of(found), found.head_length
            )
        if not unmodified_since(
            base + seen.if_modified_since.start, seen.if_modified_since.length, head_of(found), found.head_length
        ):
            return UNCLEAR
        # Two things that are the same are only the same date if they are one.
        date = PyBytes_FromStringAndSize(
            <const char *>base + seen.if_modified_since.start, seen.if_modified_since.length
        )
        if date not in self._dates:
            if parse_http_date(date) is None:
                return UNCLEAR
            if len(self._dates) >= MOST_DATES:
                self._dates.clear()
            self._dates.add(date)
        return UNCHANGED


cdef inline bint entity_tag(const unsigned char *tag, Py_ssize_t length) noexcept nogil:
    """Whether that is one well-formed opaque-tag, without W/ (RFC 9110 8.8.3)."""
    cdef Py_ssize_t index
    if length < 2 or tag[0] != 0x22 or tag[length - 1] != 0x22:
        return False
    for index in range(1, length - 1):
        if tag[index] <= 0x20 or tag[index] == 0x22 or tag[index] == 0x7F:
            return False
    return True


cdef Condition none_match(
    const unsigned char *value, Py_ssize_t length, const char *head, Py_ssize_t head_length
) noexcept nogil:
    """What an If-None-Match of exactly one entity tag says of the stored response; anything else is UNCLEAR."""
    cdef const char *end = head + head_length
    cdef const char *line = <const char *>memchr(head, c"\n", head_length)
    cdef const char *next
    cdef Py_ssize_t stored
    if length > 2 and value[0] == c"W" and value[1] == c"/":
        value += 2
        length -= 2
    if not entity_tag(value, length):
        return UNCLEAR
    while line != NULL and line + 1 < end:
        line += 1
        next = <const char *>memchr(line, c"\n", end - line)
        if next == NULL:
            break
        if next - line >= 7 and named(<const unsigned char *>line, "etag: ", 6):
            line += 6
            stored = next - 1 - line
            if stored > 2 and line[0] == c"W" and line[1] == c"/":
                line += 2
                stored -= 2
            if stored == length and memcmp(line, value, length) == 0:
                return UNCHANGED
            return CHANGED
        line = next
    return CHANGED


cdef bint unmodified_since(
    const unsigned char *value, Py_ssize_t length, const char *head, Py_ssize_t head_length
) noexcept nogil:
    """Whether If-Modified-Since is, byte for byte, the stored response's one Last-Modified."""
    cdef const char *end = head + head_length
    cdef const char *line = <const char *>memchr(head, c"\n", head_length)
    cdef const char *next
    cdef bint found = False
    while line != NULL and line + 1 < end:
        line += 1
        next = <const char *>memchr(line, c"\n", end - line)
        if next == NULL:
            break
        if next - line >= 16 and named(<const unsigned char *>line, "last-modified: ", 15):
            if found or next - 1 - line - 15 != length or memcmp(line + 15, value, length):
                return False
            found = True
        line = next
    return found


def condition(bytes value not None, bytes head not None):
    """`none_match`, for the tests: 304, 200, or None where it is unclear."""
    return (None, 200, 304)[none_match(<const unsigned char *><const char *>value, len(value), head, len(head))]


def since(bytes value not None, bytes head not None):
    """`unmodified_since`, for the tests."""
    return unmodified_since(<const unsigned char *><const char *>value, len(value), head, len(head))
