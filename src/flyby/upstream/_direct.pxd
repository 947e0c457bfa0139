"""The map of a connection whose plain exchanges take no object."""

from flyby.upstream._connection cimport Connection
from flyby.upstream._waiter cimport Waiter


cdef class Listener(Waiter):
    cdef Py_ssize_t recognise(self, const unsigned char *base, Py_ssize_t size, long long *content) except -1
    cdef int begin(self) except -1
    cdef int part(self, const unsigned char *base, Py_ssize_t size) except -1
    cdef int ended(self) except -1


cdef class DirectConnection(Connection):
    cdef Listener _listener  # of the exchange under way, while it is the receiver or has the content; or None
    cdef bint _counted       # it has the content, which Content-Length counts

    cdef int ask(
        self, const char *head, Py_ssize_t length, bytes method, Listener listener, double now, bint more=*
    ) except -1
    cdef bint _feed_plain(self, Py_ssize_t size) except -1
    cdef int _feed_listener(self, const unsigned char *base, Py_ssize_t size) except -1
