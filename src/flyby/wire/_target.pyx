# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Where a request goes: request target and Host become one authority and one path (RFC 9112 3.2, 3.3).

Route, cache key and the Host that the origin sees come from the authority made here, once: lower-case, without a
final dot, without the scheme's default port. The path is kept byte for byte; nothing is decoded or normalised, for
every proxy does that differently. The bytes of the target were checked by the scanner already; here it is the form.
"""

import ipaddress

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from flyby.errors import WireError
from flyby.wire._classes cimport CLASSES, DIGIT, LABEL

cdef Py_ssize_t LONGEST = 255  # bytes of a host name (RFC 1035 2.3.4), with its port


cdef object _bad_host(str detail):
    return WireError(400, "host", detail)


cpdef bytes authority(bytes value, bytes scheme):
    """The authority in its one spelling; a WireError when it is not `host [ ":" port ]`."""
    cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(value)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(value)
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t label = 0
    cdef long port = 0
    cdef bytes host
    if length == 0:
        raise _bad_host("the host is empty")
    if length > LONGEST:
        raise _bad_host("the host is too long")
    if text[0] == c"[":
        index = value.find(b"]")
        if index < 0:
            raise _bad_host("the host is not a valid IPv6 literal")
        host = _ipv6(value[1:index])
        index += 1
    else:
        while index < length and text[index] != c":":
            if CLASSES[text[index]] & LABEL:
                label += 1
            elif text[index] == c"." and label:
                label = 0
            else:
                raise _bad_host("the host is not a valid name")
            index += 1
        if index == 0:
            raise _bad_host("the host is not a valid name")
        host = value[: index if label else index - 1].lower()
    if index == length:
        return host
    if text[index] != c":":
        raise _bad_host("the host is not a valid IPv6 literal")
    index += 1
    if index == length:
        return host  # an empty port is the default one (RFC 3986 6.2.3)
    while index < length:
        if not CLASSES[text[index]] & DIGIT:
            raise _bad_host("the port is not a number")
        port = port * 10 + text[index] - c"0"
        if port > 65535:
            raise _bad_host("the port is out of range")
        index += 1
    if port == 0:
        raise _bad_host("the port is out of range")
    if port == (443 if scheme == b"https" else 80):
        return host
    return host + b":%d" % port


cdef bytes _ipv6(bytes literal):
    try:
        if b"%" in literal:
            raise ValueError(literal)
        return b"[%b]" % str(ipaddress.IPv6Address(literal.decode("ascii"))).encode("ascii")
    except ValueError:
        raise _bad_host("the host is not a valid IPv6 literal") from None


cdef tuple resolve(bytes method, bytes target, bytes scheme):
    """(path, authority) of a request; the authority is None where the target names none."""
    cdef const char *text = PyBytes_AS_STRING(target)
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef bytes path
    if method == b"CONNECT":
        # authority-form is its only form (3.2.3). This edge is no forward proxy.
        if text[0] == c"/" or b":" not in target:
            raise WireError(400, "target", "CONNECT needs an authority")
        authority(target, scheme)
        raise WireError(405, "method", "CONNECT is not allowed")
    if text[0] == c"/":
        return target, None
    if target == b"*":
        if method != b"OPTIONS":
            raise WireError(400, "target", "only OPTIONS may ask for *")
        return target, None
    start = target.find(b"://")
    # Only the scheme of this connection: another one would give the same path two keys.
    if start < 0 or target[:start].lower() != scheme:
        raise WireError(400, "target", "the request target is neither a path nor a URI of this scheme")
    start += 3
    end = start
    while end < PyBytes_GET_SIZE(target) and text[end] != c"/" and text[end] != c"?":
        end += 1
    host = authority(target[start:end], scheme)
    path = target[end:]
    if not path and method == b"OPTIONS":
        return b"*", host  # 3.2.4: an OPTIONS without a path asks the server as a whole
    if not path or path[:1] == b"?":
        path = b"/" + path  # an empty path is "/" (RFC 9110 4.2.3)
    return path, host
