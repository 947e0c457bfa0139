"""The map of what passes a response on."""

from flyby.proxy.fetching._answer cimport Answer
from flyby.wire._head cimport RequestHead

cpdef send(exchange, Answer answer, bytes status)
cdef bint changes(rules) except -1
cdef int pass_on(
    exchange, RequestHead request, Answer answer, bytes status, rules, bint strip_tags
) except -1
