# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""A glance at a response: most are a head that has arrived whole, with content that is counted or chunked.

`glance_response` recognises a strict subset of what `HeadReader` accepts and says nothing about the rest, which then
goes the long way untouched. Recognised is: HTTP/1.1, a status from 200 to 499 that does not end at its head (not 204
or 304), every line whole and below the limits, one Content-Length of 1 to 18 digits or one Transfer-Encoding that is
`chunked`, not both, no Upgrade, and no Connection but `keep-alive`.

The second opinion of llhttp is not asked here, because nothing is left to have one about: no byte of such a head is a
control byte but the CR LF that ends a line and a tab inside a value, every line is a token, a colon and a value, and the
one field that frames the message stands there once, in its plainest form. Servers part over the spellings that are
not recognised. The tests hold every recognised head against `HeadReader` and llhttp, field by field.
"""

from flyby.wire._classes cimport CLASSES, DIGIT, TOKEN, VALUE
from flyby.wire._glance cimport after_value, cut, named


cdef void plain_limits(object limits, PlainLimits *to):
    to.line = limits.response_line
    to.block = limits.response_block
    to.fields = min(MOST_PLAIN_FIELDS, limits.response_fields)


def plain_names(not_passed, noted, never):
    """What a table of names for `glance_response` has to tell."""
    told = {name: NOT_PASSED for name in not_passed}
    for number, name in enumerate(noted):
        told[name] = NOTED << number
    told[b"content-length"] = NOT_PASSED | SIZE
    told[b"transfer-encoding"] = NOT_PASSED | CODING
    told[b"connection"] = NOT_PASSED | OPTIONS
    told.update({name: NEVER_PLAIN for name in (*never, b"upgrade")})
    return told


cdef inline long long digits(const unsigned char *text, Py_ssize_t length) noexcept nogil:
    """The number that stands there; -1 when it is not 1 to 18 digits."""
    cdef long long number = 0
    cdef Py_ssize_t index
    if not 1 <= length <= 18:
        return -1
    for index in range(length):
        if not CLASSES[text[index]] & DIGIT:
            return -1
        number = number * 10 + text[index] - c"0"
    return number


cdef bint glance_response(
    const unsigned char *base, Py_ssize_t end, const PlainLimits *limits, NameTable names, Plain *to
) noexcept nogil:
    """Whether the bytes begin with a whole head of the kind described above; `to` then says where what stands."""
    cdef Py_ssize_t at = 13
    cdef Py_ssize_t line
    cdef Py_ssize_t colon
    cdef Py_ssize_t value
    cdef Py_ssize_t last
    cdef unsigned int told
    cdef int number
    if end > limits.block:
        end = limits.block
    if end < 17 or not (
        base[0] == c"H" and base[1] == c"T" and base[2] == c"T" and base[3] == c"P" and base[4] == c"/"
        and base[5] == c"1" and base[6] == c"." and base[7] == c"1" and base[8] == c" " and base[12] == c" "
        and c"2" <= base[9] <= c"4" and CLASSES[base[10]] & DIGIT and CLASSES[base[11]] & DIGIT
    ):
        return False
    to.status = (base[9] - c"0") * 100 + (base[10] - c"0") * 10 + base[11] - c"0"
    if to.status == 204 or to.status == 304:
        return False
    while at < end and CLASSES[base[at]] & VALUE:
        at += 1
    to.reason.start = 13
    to.reason.length = <unsigned int>(at - 13)
    if end - at < 2 or base[at] != c"\r" or base[at + 1] != c"\n" or at + 2 > limits.line:
        return False
    at += 2
    to.seen = to.again = 0
    to.count = 0
    to.content = -1
    while True:
        line = at
        if end - at < 2:
            return False
        if base[at] == c"\r":
            if base[at + 1] != c"\n":
                return False
            to.length = at + 2
            # Framed in one way, and in one only.
            return (to.seen & SIZE != 0) != (to.seen & CODING != 0)
        if to.count >= limits.fields:
            return False
        while at < end and CLASSES[base[at]] & TOKEN:
            at += 1
        if at == end or at == line or base[at] != c":":
            return False
        colon = at
        at += 1
        while at < end and (base[at] == c" " or base[at] == c"\t"):
            at += 1
        value = at
        at = after_value(base, at, end)
        while at < end and CLASSES[base[at]] & VALUE:
            at += 1
        if end - at < 2 or base[at] != c"\r" or base[at + 1] != c"\n" or at + 2 - line > limits.line:
            return False
        last = at
        while last > value and (base[last - 1] == c" " or base[last - 1] == c"\t"):
            last -= 1
        told = names.find(base + line, colon - line)
        if told:
            to.again |= to.seen & told
            if told & NEVER_PLAIN:
                return False
            if told & (SIZE | CODING | OPTIONS):
                # In the plainest form: one space before, nothing behind, once.
                if to.again & (SIZE | CODING | OPTIONS) or last != at or value != colon + 2 or base[colon + 1] != c" ":
                    return False
                if told & SIZE:
                    to.content = digits(base + value, last - value)
                    if to.content < 0:
                        return False
                elif told & CODING:
                    if last - value != 7 or not named(base + value, "chunked", 7):
                        return False
                elif last - value != 10 or not named(base + value, "keep-alive", 10):
                    return False
            elif told >= NOTED and not to.seen & told:
                number = 0
                while told != <unsigned int>NOTED << number:
                    number += 1
                to.noted[number].start = <unsigned int>value
                to.noted[number].length = <unsigned int>(last - value)
            to.seen |= told
        to.names[to.count].start = <unsigned int>line
        to.names[to.count].length = <unsigned int>(colon - line)
        to.values[to.count].start = <unsigned int>value
        to.values[to.count].length = <unsigned int>(last - value)
        to.told[to.count] = told
        to.count += 1
        at += 2


def plain_at(bytes data not None, limits):
    """What a glance sees, for the tests: (length, status, reason, length of the content, fields), or None."""
    cdef Plain seen
    cdef PlainLimits narrow
    cdef NameTable names = NameTable(plain_names((), (), ()))
    cdef const unsigned char *base = data
    cdef int index
    plain_limits(limits, &narrow)
    if not glance_response(base, len(data), &narrow, names, &seen):
        return None
    fields = []
    for index in range(seen.count):
        fields.append((cut(data, seen.names[index]), cut(data, seen.values[index])))
    return seen.length, seen.status, cut(data, seen.reason), seen.content, fields
