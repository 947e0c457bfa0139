# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The fields of a request as the origin gets them, in one pass over those that came (RFC 9110 7.6).

Each field has a fate: it is passed on, or dropped (it belongs to the client's connection, or is ours to say), or it is
a trail that we append to (X-Forwarded-For, Via, CDN-Loop). A name with an underscore is dropped: to CGI, WSGI and Rack
it is an alias of the name with a hyphen. `forwarding` says what and why; this file is how. What a client may not say of
earlier hops was taken out of its fields before (`decision.arrival`).
"""

from functools import lru_cache

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.string cimport memchr

from flyby.proxy.road._identity import CDN_ID, VIA
from flyby.wire import BodyKind, hop_by_hop
from flyby.wire._fields cimport Fields
from flyby.wire._head cimport RequestHead

cdef bytes _VIA = VIA
cdef bytes _CDN_ID = CDN_ID

cdef object CHUNKED = BodyKind.CHUNKED
cdef object LENGTH = BodyKind.LENGTH
cdef object NONE = BodyKind.NONE

# What flyby itself says to the origin; a client's word for any of these is not passed on.
OURS = (
    b"host",
    b"x-forwarded-proto",
    b"x-forwarded-port",
    b"x-forwarded-host",
    b"x-request-id",
    b"x-request-start",
    b"surrogate-capability",
    b"expect",
    b"content-length",
    b"flyby-purge",
    b"flyby-purge-secret",
    b"flyby-purge-tag",
)

FATES = {name: <int>DROPPED for name in (*OURS, *hop_by_hop.HOP_BY_HOP)}
FATES[b"x-forwarded-for"] = <int>ADDRESSES
FATES[b"forwarded"] = <int>HOPS
HOPS_SAID = (b"x-forwarded-for", b"forwarded")  # what a sender says of earlier hops
FATES[b"via"] = <int>PROXIES
FATES[b"cdn-loop"] = <int>LOOP


@lru_cache(maxsize=256)
def _encoded(str address):
    """The peer in X-Forwarded-For; of a Unix socket's nothing is known."""
    return address.encode("ascii", "replace") or b"unknown"


@lru_cache(maxsize=256)
def _node(str address):
    """The peer in Forwarded (RFC 7239 6): an IPv6 address stands in brackets, and so in quotes."""
    return b'for="[%b]"' % address.encode("ascii", "replace") if ":" in address else b"for=" + _encoded(address)


cdef bytes _appended(bytes trail, bytes ours):
    return trail + b", " + ours if trail else ours


cdef bytes _joined(bytes trail, bytes value):
    return value if trail is None else trail + b", " + value


cpdef Fields upstream_fields(
    RequestHead request, Fields given, str address, bytes port, bytes identity, bytes host, now_ms,
    left_out,
):
    """Those `given`, but for the names in `left_out` (None for none), less what is this hop's affair, plus what we say.
    """
    cdef Fields out = Fields.__new__(Fields)
    cdef Py_ssize_t index
    cdef PyObject *fate
    cdef bytes key
    cdef bytes value
    cdef bytes addresses = None
    cdef bytes proxies = None
    cdef bytes loop = None
    cdef bytes hops = None
    if b"connection" in given:
        # RFC 9110 7.6.1: what Connection names is of the connection too.
        named = hop_by_hop.connection_options(given) - hop_by_hop.PROTECTED
        if named:
            given = given.without(named)
    out._names = []
    out._keys = []
    out._values = []
    out.append(b"Host", b"host", host)
    for index in range(len(given._keys)):
        key = <bytes>given._keys[index]
        if left_out is not None and key in left_out:
            continue
        value = <bytes>given._values[index]
        fate = PyDict_GetItem(FATES, key)
        if fate == NULL:
            if memchr(PyBytes_AS_STRING(key), c"_", PyBytes_GET_SIZE(key)) == NULL:
                out.append(<bytes>given._names[index], key, value)
        elif <object>fate == <int>ADDRESSES:
            addresses = _joined(addresses, value)
        elif <object>fate == <int>PROXIES:
            proxies = _joined(proxies, value)
        elif <object>fate == <int>LOOP:
            loop = _joined(loop, value)
        elif <object>fate == <int>HOPS:
            hops = _joined(hops, value)
    out.append(b"X-Forwarded-For", b"x-forwarded-for", _appended(addresses, _encoded(address)))
    if hops is not None:
        out.append(b"Forwarded", b"forwarded", _appended(hops, _node(address)))
    out.append(b"X-Forwarded-Proto", b"x-forwarded-proto", request.scheme)
    out.append(b"X-Forwarded-Port", b"x-forwarded-port", port)
    out.append(b"X-Forwarded-Host", b"x-forwarded-host", request.host)
    out.append(b"X-Request-Id", b"x-request-id", identity)
    out.append(b"X-Request-Start", b"x-request-start", b"%d" % now_ms)
    out.append(b"Via", b"via", _appended(proxies, _VIA))
    out.append(b"Surrogate-Capability", b"surrogate-capability", b'flyby="Surrogate/1.0"')
    out.append(b"CDN-Loop", b"cdn-loop", _appended(loop, _CDN_ID))
    if request.body is LENGTH:
        out.append(b"Content-Length", b"content-length", b"%d" % request.length)
    elif request.body is CHUNKED:
        out.append(b"Transfer-Encoding", b"transfer-encoding", b"chunked")
    elif request.method == b"POST" or request.method == b"PUT" or request.method == b"PATCH":
        out.append(b"Content-Length", b"content-length", b"0")
    return out
