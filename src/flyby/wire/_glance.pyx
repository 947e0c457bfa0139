# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""A glance at a request: most arrive whole and in plain form, and those are read without making an object.

`glance_any` recognises a strict subset of what `HeadReader` accepts and says nothing about the rest, which then goes to
the full parser untouched, so a fault is always found, named and answered in one place. Recognised is: one of seven
methods, a target that begins with `/`, HTTP/1.1, every line whole and well below the limits, exactly one Host that is a
lower-case name or IPv4 address (a port without leading zeros that is not the scheme's own), and of the fields that
frame or end anything only these, once each and as `name: value` to the byte:

    Content-Length: 1 to 18 digits │ Transfer-Encoding: chunked    one of the two or none
    Connection: keep-alive or close
    Expect: 100-continue

`glance` recognises of these only GET and HEAD without content, without Expect and on a connection that stays.

The second opinion of llhttp is not asked here, because nothing is left to have one about. Two servers part over how a
message is framed by reading one of these differently: a line end, white space around a name, a name that is almost a
framing field's, a number, a list, a repetition, or which of two framings counts. Here no byte is a control byte but the
CR LF that ends a line and a tab inside a value; every line is a token, a colon and a value; a name that CGI would fold
into a framing field is not recognised; and the one field that frames the message is there once and in the one spelling
that every parser reads in one way. A Connection that names a field is not recognised, so none can take it away.
The tests let both parsers read the same bytes and compare every field.
"""

from libc.string cimport memcmp

from flyby.wire._classes cimport CLASSES, DIGIT, LABEL, PATH, QUERY
from flyby.wire._field_line cimport NOT_RECOGNISED, decimal, field_line, plainest

cdef Py_ssize_t LONGEST_HOST = 255  # with its port, as `_target` has it
# `glance` leaves these to others.
cdef unsigned int MORE_THAN_PLAIN = CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT | CLOSE


cdef void glance_limits(object limits, bytes scheme, GlanceLimits *to):
    to.line = limits.request_line
    to.field_line = limits.header_line
    to.block = limits.header_block
    to.fields = min(MOST_FIELDS, limits.fields)
    to.default_port = 443 if scheme == b"https" else 80


cdef inline bint imitates(const unsigned char *name, Py_ssize_t length, const char *letters) noexcept nogil:
    """Whether the letters and digits of a name spell `letters`, whatever stands between them (see `_scan`)."""
    cdef Py_ssize_t index
    cdef Py_ssize_t at = 0
    cdef unsigned char byte
    for index in range(length):
        byte = name[index]
        if c"A" <= byte <= c"Z":
            byte |= 0x20
        if c"a" <= byte <= c"z" or c"0" <= byte <= c"9":
            if byte != <unsigned char>letters[at]:
                return False
            at += 1
    return letters[at] == 0


cdef inline unsigned int spot(const unsigned char *name, Py_ssize_t length) noexcept nogil:
    """Which of the fields that decide something this is."""
    if length == 4:
        if named(name, "host", 4):
            return HOST
    elif length == 5:
        if named(name, "range", 5):
            return RANGE
    elif length == 6:
        if named(name, "cookie", 6):
            return COOKIE
        if named(name, "origin", 6):
            return ORIGIN
        if named(name, "expect", 6):
            return EXPECT
    elif length == 7:
        if named(name, "referer", 7):
            return REFERER
        if named(name, "upgrade", 7):
            return FRAMING
    elif length == 8:
        if named(name, "cdn-loop", 8):
            return CDN_LOOP
        if named(name, "if-match", 8):
            return PRECONDITION
        if named(name, "if-range", 8):
            return IF_RANGE
    elif length == 10:
        if named(name, "user-agent", 10):
            return USER_AGENT
        if named(name, "connection", 10):
            return CONNECTION
    elif length == 12:
        if named(name, "content-type", 12):
            return CONTENT_TYPE
        if named(name, "x-request-id", 12):
            return REQUEST_ID
    elif length >= 13:
        if length == 13:
            if named(name, "cache-control", 13):
                return CACHE_CONTROL
            if named(name, "if-none-match", 13):
                return IF_NONE_MATCH
            if named(name, "authorization", 13):
                return AUTHORIZATION
        elif length == 14:
            if named(name, "content-length", 14):
                return CONTENT_LENGTH
        elif length == 15:
            if named(name, "accept-encoding", 15):
                return ACCEPT_ENCODING
            if named(name, "x-forwarded-for", 15):
                return FORWARDED_FOR
        elif length == 17:
            if named(name, "if-modified-since", 17):
                return IF_MODIFIED_SINCE
            if named(name, "transfer-encoding", 17):
                return TRANSFER_ENCODING
        elif length == 19:
            if named(name, "if-unmodified-since", 19):
                return PRECONDITION
        if imitates(name, length, "contentlength") or imitates(name, length, "transferencoding"):
            return FRAMING
    return OTHER


cdef inline bint plain_host(const unsigned char *text, Py_ssize_t length, int default_port) noexcept nogil:
    """Whether Host stands there in its one spelling already."""
    cdef Py_ssize_t index = 0
    cdef int label = 0
    cdef int port = 0
    if length == 0 or length > LONGEST_HOST:
        return False
    while index < length and text[index] != c":":
        if c"A" <= text[index] <= c"Z":
            return False
        if CLASSES[text[index]] & LABEL:
            label += 1
        elif text[index] == c"." and label:
            label = 0
        else:
            return False
        index += 1
    if not label:
        return False
    if index == length:
        return True
    index += 1
    if index == length or length - index > 5 or text[index] == c"0":
        return False
    while index < length:
        if not CLASSES[text[index]] & DIGIT:
            return False
        port = port * 10 + text[index] - c"0"
        index += 1
    return port <= 65535 and port != default_port


cdef inline int method_of(const unsigned char *verb, Py_ssize_t length) noexcept nogil:
    """Which method this is, 0 for one that is not recognised; methods are case-sensitive (RFC 9110 9.1)."""
    if length == 3:
        if memcmp(verb, "GET", 3) == 0:
            return GET
        if memcmp(verb, "PUT", 3) == 0:
            return PUT
    elif length == 4:
        if memcmp(verb, "HEAD", 4) == 0:
            return HEAD
        if memcmp(verb, "POST", 4) == 0:
            return POST
    elif length == 5:
        if memcmp(verb, "PATCH", 5) == 0:
            return PATCH
    elif length == 6:
        if memcmp(verb, "DELETE", 6) == 0:
            return DELETE
    elif length == 7:
        if memcmp(verb, "OPTIONS", 7) == 0:
            return OPTIONS
    return 0


cdef inline Py_ssize_t request_line(
    const unsigned char *base, Py_ssize_t end, Py_ssize_t limit, Glance *to
) noexcept nogil:
    """Read the request line into `to`; return where the fields begin, or NOT_RECOGNISED."""
    cdef Py_ssize_t at = 3
    if end < 16:
        return NOT_RECOGNISED
    while at < 8 and base[at] != c" ":
        at += 1
    to.method = method_of(base, at)
    if not to.method or base[at] != c" " or base[at + 1] != c"/":
        return NOT_RECOGNISED
    to.is_head = to.method == HEAD
    to.verb.start = 0
    to.verb.length = <unsigned int>at
    at += 1
    to.target.start = <unsigned int>at
    while at < end and CLASSES[base[at]] & PATH:
        at += 1
    to.path_length = <unsigned int>(at - to.target.start)
    if at < end and base[at] == c"?":
        at += 1
        while at < end and CLASSES[base[at]] & QUERY:
            at += 1
    to.target.length = <unsigned int>(at - to.target.start)
    if end - at < 11 or at + 11 > limit or memcmp(base + at, " HTTP/1.1\r\n", 11) != 0:
        return NOT_RECOGNISED
    return at + 11


cdef inline bint note(
    const unsigned char *base, unsigned int kind, bint plain_form, Span value, int default_port, Glance *to
) noexcept nogil:
    """Note what the line of a field that decides something says; False when it is not recognised."""
    cdef bint again = to.seen & kind != 0
    if again:
        to.again |= kind
    to.seen |= kind
    if kind == HOST:
        to.host = value
        return not again and plain_host(base + value.start, value.length, default_port)
    if kind == CONNECTION:
        if again or not plain_form:
            return False
        if value.length == 5 and named(base + value.start, "close", 5):
            to.seen |= CLOSE
            return True
        return value.length == 10 and named(base + value.start, "keep-alive", 10)
    if kind == CONTENT_LENGTH:
        to.body = COUNTED
        to.content = decimal(base + value.start, value.length)
        return not again and plain_form and to.content >= 0
    if kind == TRANSFER_ENCODING:
        to.body = CHUNKED
        return not again and plain_form and value.length == 7 and named(base + value.start, "chunked", 7)
    if kind == EXPECT:
        return not again and plain_form and value.length == 12 and named(base + value.start, "100-continue", 12)
    if kind == FRAMING:
        return False
    if again:
        return True
    if kind == IF_NONE_MATCH:
        to.if_none_match = value
    elif kind == IF_MODIFIED_SINCE:
        to.if_modified_since = value
    elif kind == USER_AGENT:
        to.user_agent = value
    elif kind == REFERER:
        to.referer = value
    elif kind == REQUEST_ID:
        to.request_id = value
    elif kind == RANGE:
        to.range = value
    elif kind == IF_RANGE:
        to.if_range = value
    elif kind == AUTHORIZATION:
        to.authorization = value
    elif kind == COOKIE:
        to.cookie = value
    elif kind == CACHE_CONTROL:
        to.cache_control = value
    elif kind == CONTENT_TYPE:
        to.content_type = value
    elif kind == ORIGIN:
        to.origin = value
    elif kind == FORWARDED_FOR:
        to.forwarded_for = value
    return True


cdef bint glance_any(const unsigned char *base, Py_ssize_t end, const GlanceLimits *limits, Glance *to) noexcept nogil:
    """Whether the bytes begin with a whole request of the kind described above; `to` then says what is where."""
    cdef Py_ssize_t at
    cdef Py_ssize_t line
    cdef unsigned int kind
    cdef Span name
    cdef Span value
    if end > limits.block:
        end = limits.block
    at = request_line(base, end, limits.line, to)
    if at == NOT_RECOGNISED:
        return False
    to.body = NO_CONTENT
    to.content = -1
    to.seen = to.again = 0
    to.count = 0
    to.if_none_match.length = to.if_modified_since.length = to.user_agent.length = to.referer.length = 0
    to.request_id.length = to.range.length = to.if_range.length = to.authorization.length = to.cookie.length = 0
    to.cache_control.length = to.content_type.length = to.origin.length = to.forwarded_for.length = 0
    while True:
        line = at
        at = field_line(base, line, end, limits.field_line, &name, &value)
        if at == NOT_RECOGNISED:
            return False
        if name.length == 0:
            break
        if to.count >= limits.fields:
            return False
        kind = spot(base + name.start, name.length)
        if kind and not note(base, kind, plainest(base, at, name, value), value, limits.default_port, to):
            return False
        to.names[to.count] = name
        to.values[to.count] = value
        to.count += 1
    to.length = at
    if to.content == 0 and (to.method == GET or to.method == HEAD):
        to.body = NO_CONTENT  # RFC 9112 6.3: as `HeadReader` has it
        to.content = -1
    # Framed in one way at most.
    return to.seen & HOST and not (to.seen & CONTENT_LENGTH and to.seen & TRANSFER_ENCODING)


cdef bint glance(const unsigned char *base, Py_ssize_t end, const GlanceLimits *limits, Glance *to) noexcept nogil:
    """`glance_any` for those that need no more than a look-up; the first byte tells most of the others."""
    if end < 16 or (base[0] != c"G" and base[0] != c"H"):
        return False
    return glance_any(base, end, limits, to) and not to.seen & MORE_THAN_PLAIN


def glance_at(bytes data not None, limits, bytes scheme not None, bint plain=False):
    """What `glance_any` sees, or `glance` where `plain`, for the tests; None when it does not recognise the request.

    (length, method, target, host, fields, (body, content), (closes, expects), {name: first value})
    """
    cdef Glance seen
    cdef GlanceLimits narrow
    cdef const unsigned char *base = data
    cdef int index
    glance_limits(limits, scheme, &narrow)
    if not (glance(base, len(data), &narrow, &seen) if plain else glance_any(base, len(data), &narrow, &seen)):
        return None
    fields = []
    for index in range(seen.count):
        fields.append((cut(data, seen.names[index]), cut(data, seen.values[index])))
    firsts = {
        b"if-none-match": cut(data, seen.if_none_match),
        b"if-modified-since": cut(data, seen.if_modified_since),
        b"user-agent": cut(data, seen.user_agent),
        b"referer": cut(data, seen.referer),
        b"x-request-id": cut(data, seen.request_id),
        b"range": cut(data, seen.range),
        b"if-range": cut(data, seen.if_range),
        b"authorization": cut(data, seen.authorization),
        b"cookie": cut(data, seen.cookie),
        b"cache-control": cut(data, seen.cache_control),
        b"content-type": cut(data, seen.content_type),
        b"origin": cut(data, seen.origin),
        b"x-forwarded-for": cut(data, seen.forwarded_for),
    }
    return (
        seen.length, cut(data, seen.verb), cut(data, seen.target), cut(data, seen.host), fields,
        (seen.body, seen.content), (seen.seen & CLOSE != 0, seen.seen & EXPECT != 0), firsts,
    )


cdef bytes cut(bytes data, Span span):
    return data[span.start : span.start + span.length]
