"""The map of how a request's head is written for the origin, from the bytes that came."""

from flyby.log._lines cimport Text
from flyby.wire._glance cimport Glance
from flyby.wire._names cimport NameTable


cdef struct Sayings:   # what this edge says of the request
    Text host          # the origin's name for itself, or the client's
    Text address
    Text port
    Text scheme
    Text identity
    long long now_ms

cdef NameTable request_names(left_out)
cdef Py_ssize_t room_for(const Glance *seen, const Sayings *says) noexcept nogil
cdef Py_ssize_t put_request(
    char *start, const unsigned char *base, const Glance *seen, NameTable names, const Sayings *says
) noexcept nogil
