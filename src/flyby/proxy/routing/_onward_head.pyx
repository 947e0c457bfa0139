# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""A request's head as the origin gets it, written straight from the bytes that a glance has read.

    METHOD target HTTP/1.1 │ Host │ the lines that are passed on, as they came │ what this edge says │ framing

It is what `upstream_fields` and `serialise_request` make of the same request, byte for byte: the fate of a field is
looked up in a table of theirs, and the tests compare the two. Only requests that a glance recognised come here, so
every byte is known to be one that a head may hold.
"""

from libc.string cimport memchr, memcpy

from flyby.log._lines cimport Text
from flyby.proxy.road._identity import CDN_ID as _CDN_ID
from flyby.proxy.routing._upstream_fields import FATES as _FATES
from flyby.proxy.routing._upstream_fields import HOPS_SAID as _HOPS
from flyby.proxy.road._identity import VIA as _VIA
from flyby.proxy.routing._upstream_fields cimport DROPPED, LOOP, PROXIES
from flyby.wire._glance cimport (
    CHUNKED, COUNTED, PATCH, POST, PUT, Glance, GlanceLimits, Span, glance_any, glance_limits,
)
from flyby.wire._put cimport put, put_number, text_at, text_of
from flyby.wire._names cimport NameTable

cdef bytes VIA = _VIA
cdef bytes CDN_ID = _CDN_ID
cdef const char *via = VIA
cdef const char *cdn_id = CDN_ID
cdef Py_ssize_t via_length = len(VIA)
cdef Py_ssize_t cdn_id_length = len(CDN_ID)
cdef Py_ssize_t MOST_SAID = 512  # bytes of the names of what is said, and of what is always the same


cdef NameTable request_names(left_out):
    """The fate of each field that is not simply passed on; those in `left_out` are dropped.

    So is what a client says of earlier hops: where it may say that, its requests do not come here.
    """
    return NameTable({**{name: <int>DROPPED for name in left_out}, **_FATES, **dict.fromkeys(_HOPS, <int>DROPPED)})


cdef inline char *put_line(char *to, const char *name, Py_ssize_t length, Text value) noexcept nogil:
    to = put(put(to, name, length), <const char *>value.start, value.length)
    return put(to, "\r\n", 2)


cdef inline char *put_field(char *to, const unsigned char *base, Span name, Span value) noexcept nogil:
    """A field line as it came, but for the white space around its value."""
    cdef Py_ssize_t colon = name.start + name.length
    if value.start == colon + 2 and base[colon + 1] == c" ":
        to = put(to, <const char *>base + name.start, value.start + value.length - name.start)
    else:
        to = put(put(to, <const char *>base + name.start, name.length), ": ", 2)
        to = put(to, <const char *>base + value.start, value.length)
    return put(to, "\r\n", 2)


cdef char *put_trail(
    char *to, const unsigned char *base, const Glance *seen, const unsigned char *fates, unsigned char fate
) noexcept nogil:
    """The values of all lines of one name, and the comma before ours, if there is anything to stand before."""
    cdef char *start = to
    cdef bint first = True
    cdef int number
    for number in range(seen.count):
        if fates[number] == fate:
            if not first:
                to = put(to, ", ", 2)
            first = False
            to = put(to, <const char *>base + seen.values[number].start, seen.values[number].length)
    return put(to, ", ", 2) if to != start else to


cdef Py_ssize_t room_for(const Glance *seen, const Sayings *says) noexcept nogil:
    """More bytes than the head can have."""
    return (
        seen.length + 2 * seen.count + seen.host.length + MOST_SAID
        + says.host.length + says.address.length + says.port.length + says.identity.length
    )


cdef Py_ssize_t put_request(
    char *start, const unsigned char *base, const Glance *seen, NameTable names, const Sayings *says
) noexcept nogil:
    """Write the head; its length. There is `room_for` it."""
    cdef unsigned char fates[64]
    cdef const unsigned char *name
    cdef Text host
    cdef unsigned int fate
    cdef bint addressed = False
    cdef char *to = start
    cdef int number
    host.start = base + seen.host.start
    host.length = seen.host.length
    to = put(put(to, <const char *>base + seen.verb.start, seen.verb.length), " ", 1)
    to = put(put(to, <const char *>base + seen.target.start, seen.target.length), " HTTP/1.1\r\n", 11)
    to = put_line(to, "Host: ", 6, says.host)
    for number in range(seen.count):
        name = base + seen.names[number].start
        fate = names.find(name, seen.names[number].length)
        fates[number] = <unsigned char>fate
        if not fate and memchr(name, c"_", seen.names[number].length) == NULL:
            to = put_field(to, base, seen.names[number], seen.values[number])
        addressed = addressed or fate > <unsigned int>DROPPED
    to = put_line(to, "X-Forwarded-For: ", 17, says.address)
    to = put_line(to, "X-Forwarded-Proto: ", 19, says.scheme)
    to = put_line(to, "X-Forwarded-Port: ", 18, says.port)
    to = put_line(to, "X-Forwarded-Host: ", 18, host)
    to = put_line(to, "X-Request-Id: ", 14, says.identity)
    to = put_number(put(to, "X-Request-Start: ", 17), says.now_ms)
    to = put(to, "\r\nVia: ", 7)
    if addressed:
        to = put_trail(to, base, seen, fates, PROXIES)
    to = put(put(to, via, via_length), b'\r\nSurrogate-Capability: flyby="Surrogate/1.0"\r\nCDN-Loop: ', 57)
    if addressed:
        to = put_trail(to, base, seen, fates, LOOP)
    to = put(put(to, cdn_id, cdn_id_length), "\r\n", 2)
    if seen.body == COUNTED:
        to = put(put_number(put(to, "Content-Length: ", 16), seen.content), "\r\n", 2)
    elif seen.body == CHUNKED:
        to = put(to, "Transfer-Encoding: chunked\r\n", 28)
    elif seen.method == POST or seen.method == PUT or seen.method == PATCH:
        to = put(to, "Content-Length: 0\r\n", 19)
    return put(to, "\r\n", 2) - start


def onward_head(
    bytes data not None, limits, bytes host, bytes address not None, bytes port not None, bytes identity not None,
    long long now_ms, left_out=(),
):
    """What is made of a request, None when a glance does not recognise it; for the tests."""
    cdef Glance seen
    cdef GlanceLimits narrow
    cdef Sayings says
    cdef const unsigned char *base = data
    cdef bytearray to
    cdef char *start
    glance_limits(limits, b"http", &narrow)
    if not glance_any(base, len(data), &narrow, &seen):
        return None
    if host is None:
        host = data[seen.host.start : seen.host.start + seen.host.length]
    scheme = b"http"
    says.host, says.address, says.port = text_of(host), text_of(address), text_of(port)
    says.scheme, says.identity, says.now_ms = text_of(scheme), text_of(identity), now_ms
    to = bytearray(room_for(&seen, &says))
    start = to
    return bytes(to[: put_request(start, base, &seen, request_names(left_out), &says)])
