# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""What flyby calls itself towards others, and the id by which each request is known."""

import os
import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from flyby.wire._head cimport RequestHead

CDN_ID = b"flyby"     # in CDN-Loop (RFC 8586)
VIA = b"1.1 flyby"    # in Via (RFC 9110 7.6.3)

# Heroku keeps a client's X-Request-Id of 20 to 200 of these characters.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9+/=-]{20,200}\Z")

cdef bytes ENTROPY = b""  # what is left of it begins at `ENTROPY_USED`
cdef Py_ssize_t ENTROPY_USED = 0
cdef const char *HEXADECIMAL = "0123456789abcdef"


cpdef bytes fresh_identity():
    """32 hexadecimal digits that nobody can guess; the kernel is asked once for 64 of them."""
    global ENTROPY, ENTROPY_USED
    cdef const unsigned char *byte
    cdef char *to
    cdef int index
    if ENTROPY_USED == PyBytes_GET_SIZE(ENTROPY):
        ENTROPY = os.urandom(1024)
        ENTROPY_USED = 0
    cdef bytes identity = PyBytes_FromStringAndSize(NULL, 32)
    to = PyBytes_AS_STRING(identity)
    byte = <const unsigned char *>PyBytes_AS_STRING(ENTROPY) + ENTROPY_USED
    for index in range(16):
        to[2 * index] = HEXADECIMAL[byte[index] >> 4]
        to[2 * index + 1] = HEXADECIMAL[byte[index] & 15]
    ENTROPY_USED += 16
    return identity


def _forget():
    """A child must not give the ids that its parent gives."""
    global ENTROPY, ENTROPY_USED
    ENTROPY = b""
    ENTROPY_USED = 0


os.register_at_fork(after_in_child=_forget)


def identity(bytes given not None):
    """The id that the client gave, if it is a good one, else a new one."""
    return given if given and _REQUEST_ID.match(given) else fresh_identity()


cpdef bytes request_identity(RequestHead request):
    """The id by which this request is known in logs here and in the dyno's."""
    return identity(request.fields.get(b"x-request-id") or b"")
