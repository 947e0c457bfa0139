# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""A glance at a response: most are a head that has arrived whole, with content that is counted or chunked.

`glance_any_response` recognises a strict subset of what `HeadReader` accepts and says nothing about the rest, which
then goes to the full parser untouched. Recognised is: HTTP/1.1, a final status, every line whole and below the limits,
no Upgrade, and of the fields that frame or end anything only these, once each and as `name: value` to the byte:

    Content-Length: 1 to 18 digits │ Transfer-Encoding: chunked
    Connection: keep-alive or close

A response that has content has one of the first two. A response without content (to HEAD, or 304: RFC 9112 6.3 rule 1)
has one of them or none, a 204 none or a Content-Length of 0; never are there both. `glance_response` recognises of
these only what has content and a status below 500, on a connection that stays.

The second opinion of llhttp is not asked here, because nothing is left to have one about: no byte of such a head is a
control byte but the CR LF that ends a line and a tab inside a value, every line is a token, a colon and a value, and
the one field that frames the message is there once, in its plainest form. Servers part over the spellings that are not
recognised. The tests hold every recognised head against `HeadReader` and llhttp, field by field.
"""

from libc.string cimport memcmp

from flyby.wire._classes cimport CLASSES, DIGIT, VALUE
from flyby.wire._field_line cimport NOT_RECOGNISED, decimal, field_line, named, plainest
from flyby.wire._glance cimport CHUNKED, COUNTED, NO_CONTENT, cut

cdef unsigned int LINE_FIELDS = SIZE | CODING | OPTIONS


cdef void plain_limits(object limits, PlainLimits *to):
    to.line = limits.response_line
    to.field_line = limits.response_header_line
    to.block = limits.response_block
    to.fields = min(MOST_PLAIN_FIELDS, limits.response_fields)


def plain_names(not_passed, noted, never):
    """What a table of names for a glance has to tell. A name may be both `noted` and `not_passed`."""
    if len(noted) > MOST_NOTED:
        raise ValueError("more names than a glance notes")
    told = {name: NOT_PASSED for name in not_passed}
    for number, name in enumerate(noted):
        told[name] = told.get(name, 0) | NOTED << number
    told[b"content-length"] = NOT_PASSED | SIZE
    told[b"transfer-encoding"] = NOT_PASSED | CODING
    told[b"connection"] = NOT_PASSED | OPTIONS
    told.update({name: NEVER_PLAIN for name in (*never, b"upgrade")})
    return told


cdef inline Py_ssize_t status_line(
    const unsigned char *base, Py_ssize_t end, Py_ssize_t limit, Plain *to
) noexcept nogil:
    """Read the status line into `to`; return where the fields begin, or NOT_RECOGNISED."""
    cdef Py_ssize_t at = 13
    if end < 17 or memcmp(base, "HTTP/1.1 ", 9) != 0 or not (
        c"2" <= base[9] <= c"5" and CLASSES[base[10]] & DIGIT and CLASSES[base[11]] & DIGIT and base[12] == c" "
    ):
        return NOT_RECOGNISED
    to.status = (base[9] - c"0") * 100 + (base[10] - c"0") * 10 + base[11] - c"0"
    while at < end and CLASSES[base[at]] & VALUE:
        at += 1
    to.reason.start = 13
    to.reason.length = <unsigned int>(at - 13)
    if end - at < 2 or base[at] != c"\r" or base[at + 1] != c"\n" or at + 2 > limit:
        return NOT_RECOGNISED
    return at + 2


cdef inline bint frames(const unsigned char *base, unsigned int told, Span value, Plain *to) noexcept nogil:
    """Note what a field of `LINE_FIELDS` says; False when it is not recognised."""
    if told & SIZE:
        to.content = decimal(base + value.start, value.length)
        return to.content >= 0
    if told & CODING:
        return value.length == 7 and named(base + value.start, "chunked", 7)
    if value.length == 5 and named(base + value.start, "close", 5):
        to.closes = True
        return True
    return value.length == 10 and named(base + value.start, "keep-alive", 10)


cdef inline bint framed(bint asked_head, Plain *to) noexcept nogil:
    """Note how the content is framed; False when that is not in one plain way."""
    cdef bint sized = to.seen & SIZE != 0
    cdef bint coded = to.seen & CODING != 0
    to.body = NO_CONTENT
    if to.status == 204:
        return not coded and to.content <= 0
    if to.status == 304 or asked_head:
        return not (sized and coded)
    to.body = COUNTED if sized else CHUNKED
    return sized != coded


cdef bint glance_any_response(
    const unsigned char *base, Py_ssize_t end, const PlainLimits *limits, NameTable names, bint asked_head, Plain *to
) noexcept nogil:
    """Whether the bytes begin with a whole head of the kind described above; `to` then says what is where."""
    cdef Py_ssize_t at
    cdef Py_ssize_t line
    cdef unsigned int told
    cdef unsigned int noted
    cdef int number
    cdef Span name
    cdef Span value
    if end > limits.block:
        end = limits.block
    at = status_line(base, end, limits.line, to)
    if at == NOT_RECOGNISED:
        return False
    to.seen = to.again = 0
    to.count = 0
    to.content = -1
    to.closes = False
    while True:
        line = at
        at = field_line(base, line, end, limits.field_line, &name, &value)
        if at == NOT_RECOGNISED:
            return False
        if name.length == 0:
            to.length = at
            return framed(asked_head, to)
        if to.count >= limits.fields:
            return False
        told = names.find(base + name.start, name.length)
        if told:
            to.again |= to.seen & told
            if told & NEVER_PLAIN:
                return False
            if told & LINE_FIELDS:
                if to.again & told & LINE_FIELDS or not plainest(base, at, name, value):
                    return False
                if not frames(base, told, value, to):
                    return False
            elif told >= NOTED and not to.seen & told & ~<unsigned int>NOT_PASSED:
                number = 0
                noted = told >> 5  # NOTED is the sixth bit
                while not noted & 1:
                    noted >>= 1
                    number += 1
                to.noted[number] = value
            to.seen |= told
        to.names[to.count] = name
        to.values[to.count] = value
        to.told[to.count] = told
        to.count += 1


cdef bint glance_response(
    const unsigned char *base, Py_ssize_t end, const PlainLimits *limits, NameTable names, Plain *to
) noexcept nogil:
    """`glance_any_response` for what has content, and is passed on without more ado."""
    return (
        glance_any_response(base, end, limits, names, False, to)
        and to.body != NO_CONTENT and to.status < 500 and not to.closes
    )


def plain_at(bytes data not None, limits, noted=(), not_passed=(), bint asked_head=False, bint plain=False):
    """What `glance_any_response` sees, or `glance_response` where `plain`, for the tests; None when it recognises
    nothing.

    (length, status, reason, (body, content), closes, fields, [whether a field is passed on],
    {noted name: (first value, whether there are more)})
    """
    cdef Plain seen
    cdef PlainLimits narrow
    cdef NameTable names = NameTable(plain_names(not_passed, noted, ()))
    cdef const unsigned char *base = data
    cdef int index
    cdef bint recognised
    plain_limits(limits, &narrow)
    if plain:
        recognised = glance_response(base, len(data), &narrow, names, &seen)
    else:
        recognised = glance_any_response(base, len(data), &narrow, names, asked_head, &seen)
    if not recognised:
        return None
    fields = []
    passed = []
    for index in range(seen.count):
        fields.append((cut(data, seen.names[index]), cut(data, seen.values[index])))
        passed.append(not seen.told[index] & NOT_PASSED)
    notes = {}
    for index, name in enumerate(noted):
        if seen.seen & (<unsigned int>NOTED << index):
            notes[name] = (cut(data, seen.noted[index]), seen.again & (<unsigned int>NOTED << index) != 0)
    return (
        seen.length, seen.status, cut(data, seen.reason), (seen.body, seen.content), seen.closes, fields, passed, notes,
    )
