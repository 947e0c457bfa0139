# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""A glance at a request: most are one plain GET that has arrived whole, and those are read without making an object.

`glance` recognises a strict subset of what `HeadReader` accepts and says nothing about the rest, which then goes the
long way untouched, so a fault is always found, named and answered by the one full parser. Recognised is: GET or HEAD,
a target that begins with `/`, HTTP/1.1, every line whole and well below the limits, exactly one Host that is a
lower-case name or IPv4 address (a port without leading zeros that is not the scheme's own), no field that frames or
switches (Content-Length, Transfer-Encoding, Expect, Upgrade), and no Connection but `keep-alive`. Every byte is
held to what the full parser's tables allow, and the tests let both read the same bytes and compare every field.
"""

from flyby.wire._classes cimport CLASSES, DIGIT, LABEL, PATH, QUERY, TOKEN, VALUE

cdef Py_ssize_t LONGEST_HOST = 255  # with its port, as `_target` has it


cdef void glance_limits(object limits, bytes scheme, GlanceLimits *to):
    to.line = limits.request_line
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
    """Which of the telling fields this is."""
    if length == 4:
        if named(name, "host", 4):
            return HOST
    elif length == 5:
        if named(name, "range", 5):
            return RANGE
    elif length == 6:
        if named(name, "cookie", 6):
            return COOKIE
        if named(name, "expect", 6):
            return FRAMING
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
            return RANGE
    elif length == 10:
        if named(name, "user-agent", 10):
            return USER_AGENT
        if named(name, "connection", 10):
            return CONNECTION
    elif length == 12:
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
        elif length == 15:
            if named(name, "accept-encoding", 15):
                return ACCEPT_ENCODING
        elif length == 17:
            if named(name, "if-modified-since", 17):
                return IF_MODIFIED_SINCE
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


cdef bint glance(const unsigned char *base, Py_ssize_t end, const GlanceLimits *limits, Glance *to) noexcept nogil:
    """Whether the bytes begin with a whole request of the kind described above; `to` then says where what stands."""
    cdef Py_ssize_t at
    cdef Py_ssize_t line
    cdef Py_ssize_t colon
    cdef Py_ssize_t value
    cdef Py_ssize_t last
    cdef unsigned int kind
    cdef unsigned int allowed = PATH
    if end > limits.block:
        end = limits.block
    if end < 16 or base[0] > 127:
        return False
    if base[0] == c"G" and base[1] == c"E" and base[2] == c"T" and base[3] == c" ":
        to.is_head = False
        at = 4
    elif base[0] == c"H" and base[1] == c"E" and base[2] == c"A" and base[3] == c"D" and base[4] == c" ":
        to.is_head = True
        at = 5
    else:
        return False
    if base[at] != c"/":
        return False
    to.target.start = <unsigned int>at
    to.path_length = 0
    while at < end and CLASSES[base[at]] & allowed:
        at += 1
    if at < end and base[at] == c"?":
        to.path_length = <unsigned int>(at - to.target.start)
        at += 1
        while at < end and CLASSES[base[at]] & QUERY:
            at += 1
    to.target.length = <unsigned int>(at - to.target.start)
    if not to.path_length:
        to.path_length = to.target.length
    if end - at < 11 or at + 11 > limits.line:
        return False
    if not (
        base[at] == c" " and base[at + 1] == c"H" and base[at + 2] == c"T" and base[at + 3] == c"T"
        and base[at + 4] == c"P" and base[at + 5] == c"/" and base[at + 6] == c"1" and base[at + 7] == c"."
        and base[at + 8] == c"1" and base[at + 9] == c"\r" and base[at + 10] == c"\n"
    ):
        return False
    at += 11
    to.seen = 0
    to.again = 0
    to.count = 0
    to.user_agent.length = to.referer.length = to.request_id.length = 0
    while True:
        line = at
        if end - at < 2:
            return False
        if base[at] == c"\r":
            if base[at + 1] != c"\n":
                return False
            to.length = at + 2
            return to.seen & HOST != 0
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
        at += 2
        to.names[to.count].start = <unsigned int>line
        to.names[to.count].length = <unsigned int>(colon - line)
        to.values[to.count].start = <unsigned int>value
        to.values[to.count].length = <unsigned int>(last - value)
        kind = spot(base + line, colon - line)
        if kind:
            to.again |= to.seen & kind
            to.seen |= kind
            if kind == HOST:
                if to.again & HOST or not plain_host(base + value, last - value, limits.default_port):
                    return False
                to.host = to.values[to.count]
            elif kind == CONNECTION:
                if to.again & CONNECTION or last - value != 10 or not named(base + value, "keep-alive", 10):
                    return False
            elif kind == IF_NONE_MATCH:
                to.if_none_match = to.values[to.count]
            elif kind == IF_MODIFIED_SINCE:
                to.if_modified_since = to.values[to.count]
            elif kind == USER_AGENT:
                if not to.again & USER_AGENT:
                    to.user_agent = to.values[to.count]
            elif kind == REFERER:
                if not to.again & REFERER:
                    to.referer = to.values[to.count]
            elif kind == REQUEST_ID:
                if not to.again & REQUEST_ID:
                    to.request_id = to.values[to.count]
            elif kind == FRAMING:
                return False
        to.count += 1


def glance_at(bytes data, limits, bytes scheme):
    """What a glance sees, for the tests: (length, method, target, host, [(name, value)]), or None."""
    cdef Glance seen
    cdef GlanceLimits narrow
    cdef const unsigned char *base = data
    cdef int index
    glance_limits(limits, scheme, &narrow)
    if not glance(base, len(data), &narrow, &seen):
        return None
    fields = []
    for index in range(seen.count):
        fields.append((cut(data, seen.names[index]), cut(data, seen.values[index])))
    method = b"HEAD" if seen.is_head else b"GET"
    return seen.length, method, cut(data, seen.target), cut(data, seen.host), fields


cdef bytes cut(bytes data, Span span):
    return data[span.start : span.start + span.length]
