# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The grammar of Range and its arithmetic (RFC 9110 14.1.1, 14.1.2): compiled, for the fast lane asks for it too.

    Range     = "bytes=" 1#( first "-" [ last ] / "-" suffix-length )      the unit in any case

A number has at most 19 digits, which fit in 64 bits unsigned.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    MOST_SPECS = 16
    MOST_DIGITS = 19

MAX_PARTS = MOST_SPECS


cdef inline Py_ssize_t digits(
    const unsigned char *value, Py_ssize_t at, Py_ssize_t end, uint64_t *number
) noexcept nogil:
    """Read decimal digits from `at` on; where they end."""
    number[0] = 0
    while at < end and c"0" <= value[at] <= c"9":
        number[0] = number[0] * 10 + (value[at] - c"0")
        at += 1
    return at


cdef bint range_spec(const unsigned char *value, Py_ssize_t at, Py_ssize_t end, RangeSpec *to) noexcept nogil:
    """Read the one range that stands from `at` to `end`; False when it is none."""
    cdef Py_ssize_t dash = digits(value, at, end, &to.first)
    cdef Py_ssize_t stop
    if dash == end or value[dash] != c"-" or dash - at > MOST_DIGITS:
        return False
    stop = digits(value, dash + 1, end, &to.last)
    if stop != end or stop - dash - 1 > MOST_DIGITS:
        return False
    to.suffix = dash == at
    if stop == dash + 1:
        to.last = <uint64_t>OPEN_END
        return not to.suffix
    return to.suffix or to.first <= to.last


cdef int range_specs(const unsigned char *value, Py_ssize_t length, RangeSpec *to, int most) noexcept nogil:
    """Read the ranges of a Range field into `to`; how many there are, 0 when they are no byte ranges or over `most`.

    Empty elements of the list are skipped (RFC 9110 5.6.1).
    """
    cdef const char *unit = "bytes="
    cdef Py_ssize_t at, end, stop
    cdef int count = 0
    if length < 6 or value[5] != c"=":
        return 0
    for at in range(5):
        if value[at] | 0x20 != <unsigned char>unit[at]:
            return 0
    at = 6
    while at < length:
        while at < length and (value[at] == c" " or value[at] == c"\t"):
            at += 1
        end = at
        while end < length and value[end] != c",":
            end += 1
        stop = end
        while stop > at and (value[stop - 1] == c" " or value[stop - 1] == c"\t"):
            stop -= 1
        if stop > at:
            if count == most or not range_spec(value, at, stop, &to[count]):
                return 0
            count += 1
        at = end + 1
    return count


cdef bint range_within(const RangeSpec *spec, int64_t length, int64_t *first, int64_t *last) noexcept nogil:
    """The positions that `spec` selects of a representation of `length` bytes; False when it selects none of them."""
    last[0] = length - 1
    if spec.suffix:
        first[0] = length - <int64_t>spec.last if spec.last < <uint64_t>length else 0
        return spec.last > 0 and length > 0
    if spec.first >= <uint64_t>length:
        return False
    first[0] = <int64_t>spec.first
    if spec.last < <uint64_t>length:
        last[0] = <int64_t>spec.last
    return True


def specs(bytes value not None):
    """The ranges that a Range field asks for: (first, last), an open end beyond any length, or (None, suffix length).

    None when they are not byte ranges, or more than MAX_PARTS.
    """
    cdef RangeSpec[MOST_SPECS] found
    cdef int number
    cdef int count = range_specs(
        <const unsigned char *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), found, MOST_SPECS
    )
    if not count:
        return None
    return [(None if found[number].suffix else found[number].first, found[number].last) for number in range(count)]


def within(bytes value not None, int64_t length):
    """The positions (first, last) that a Range field selects of `length` bytes, in the field's order.

    None when they are not byte ranges; those that select nothing are left out.
    """
    cdef RangeSpec[MOST_SPECS] found
    cdef int64_t first, last
    cdef int number
    cdef int count = range_specs(
        <const unsigned char *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), found, MOST_SPECS
    )
    if not count:
        return None
    selected = []
    for number in range(count):
        if range_within(&found[number], length, &first, &last):
            selected.append((first, last))
    return selected
