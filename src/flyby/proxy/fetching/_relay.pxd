"""The map of the pass lane."""

from flyby.log._lines cimport Lines
from flyby.proxy.road._front cimport Front, Onward
from flyby.proxy.road._outbox cimport iovec
from flyby.proxy.http1._responder cimport Responder
from flyby.proxy.fetching._verdict cimport Verdict, Verdicts
from flyby.store._attachment cimport Attachment
from flyby.upstream._direct cimport DirectConnection, Listener
from flyby.upstream._pool cimport Lease
from flyby.wire._glance cimport Glance, Span
from flyby.wire._head cimport RequestHead, ResponseHead
from flyby.wire._plain cimport Plain


cdef class Passage(Onward):
    cdef readonly object context
    cdef readonly object match     # a router.Match whose path is nobody's
    cdef readonly object rules     # CacheRules
    cdef object _limits
    cdef object _take_up           # makes of a Relay what takes over from it
    cdef object _backend
    cdef str _host                 # what the origin is told: `origin`, `client` or a name
    cdef bytes _given_host         # the name
    cdef Attachment _store
    cdef object _clock
    cdef bint _systems             # it is the machine's
    cdef Lines _lines              # None when the log takes records, or when there is none
    cdef object _access
    cdef bint _logged              # there is a log
    cdef double _idle_s
    cdef Verdicts _verdicts        # None: the route changes fields, so that no response is passed on as it is
    cdef bint _guard_paths
    cdef int _server_port          # that `_port` tells, as the client's side has it
    cdef bytes _port

    cdef Lease _lease(self, double now)
    cdef double _now(self) except -1
    cdef long long _wall_ms(self) except -1


cdef class Relay(Listener):
    cdef Passage passage
    cdef Responder _client
    cdef DirectConnection _connection
    cdef readonly Lease lease
    cdef readonly bytes identity
    cdef readonly double started          # monotonic
    cdef readonly long long request_ms    # wall time
    cdef double _elapsed                  # until the response's head was here; negative before
    cdef readonly unsigned long long since  # what had been purged by then: `Store.mark`
    cdef readonly int status
    cdef bytes _text                      # the request's head, as it came
    cdef RequestHead _request             # the same, once somebody wants it
    cdef Span _target
    cdef Span _host
    cdef Span _user_agent
    cdef Span _referer
    cdef bint _plain                      # its path is no reason not to store
    cdef Verdict _verdict                 # None until a plain response came
    cdef Py_ssize_t _held                 # bytes of the head that wait in OUT for the first of the content
    cdef bint _recorded

    cpdef interim(self, ResponseHead head)
    cpdef head(self, ResponseHead head)
    cpdef fail(self, error)
    cpdef data(self, view)
    cpdef end(self, trailers)
    cdef object _long_way(self)
    cdef Py_ssize_t _begin(self, const unsigned char *base, Plain *seen, Verdict verdict, double now) except -1
    cdef int _write(self, iovec *parts, int count, size_t total) except -1
    cdef int _record(self, double now) except -1
    cpdef finished(self)
