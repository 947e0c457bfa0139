# cython: language_level=3
"""The map of the client's side of a request, as everything behind the connection sees it."""

from flyby.proxy.road._content cimport Content
from flyby.proxy.road._outbox cimport Outbox, iovec
from flyby.wire._glance cimport Glance
from flyby.wire._head cimport RequestHead


cdef class ShortCut:
    cdef readonly object read_buffer  # where every connection of the worker reads to
    cdef public bint closed           # nothing may be answered here: not ready yet, or draining
    cdef public long long skew_ms     # by how much the clock of ages is ahead of the wall clock, which was set back
    cdef bint more                    # `run` stopped at its bound: other requests may follow

    cdef Py_ssize_t run(self, Downstream client, Py_ssize_t length) except -1


cdef enum Errand:
    SHARED = 0     # nothing is stored: the fetch may be shared, and its response stored
    MARKED = 1     # what lies under the key is known not to be for sharing
    FORWARDED = 2  # the method is one that is passed on
    VALIDATED = 3  # what is stored must be validated


cdef struct Sight:  # of a plain request that the fast lane could not answer
    const unsigned char *base
    Py_ssize_t size        # bytes from `base` on that were read
    const Glance *seen
    double now             # monotonic
    long long now_ms       # wall time
    Errand errand
    const char *key        # of the resource
    Py_ssize_t key_length
    long long fresh_ms     # of a mark: until when it lasts
    void *stale            # the Entry that is to be validated, borrowed; NULL for none


cdef class Onward:
    cdef Py_ssize_t begin(self, Downstream client, const Sight *sight) except -1


cdef class Occupant:
    cpdef client_lost(self)
    cpdef client_ended(self)
    cpdef finished(self)


cdef class Downstream:
    cdef readonly ShortCut _lane
    cdef public Outbox _outbox       # None until the connection is made
    cdef public Occupant _occupant   # what answers the request under way; None between requests
    cdef public Content content      # of the request under way
    cdef public bytes approved       # the host that the certificate was last found valid for; b"": none yet
    cdef public double _deadline     # of what is being read, on the monotonic clock; 0: none
    cdef public bint paused          # the client is behind: whoever produces waits for `on_writable`
    cdef public bint begun           # a final response has been begun: nothing else can be sent in its place
    cdef public bint _keep_alive     # another request may follow
    cdef public bint _closing        # nothing more is written
    cdef bytes address               # the client's, as the log says it
    cdef int secure                  # 1 under TLS

    cdef bint approves(self, const unsigned char *host, Py_ssize_t length) noexcept
    cdef int engage(self, Occupant occupant, bint keep_alive) except -1
    cpdef occupy(self, RequestHead request, Occupant occupant)
    cpdef answered_by(self, Occupant occupant)
    cpdef on_writable(self, callback)
    cpdef expect_satisfied(self)
    cpdef interim(self, int status, bytes reason, fields)
    cpdef begin(self, int status, bytes reason, fields, long long length)
    cpdef begin_ready(self, bytes head, long long length, int status)
    cpdef flush(self)
    cpdef bint retract(self)
    cpdef data(self, view)
    cpdef end(self, trailers=*)
    cpdef send_stored(self, bytes head, long long length, views, int status)
    cpdef abort(self)
    cpdef reset(self)
    cpdef switch(self, int status, bytes reason, fields, pipe)
    cdef Py_ssize_t close_head(self, char *head, Py_ssize_t length, bint chunked) except -1
    cdef int write_parts(self, iovec *parts, int count, size_t total) except -1
    cdef int complete(self, double now) except -1
