"""The map of the pass lane."""

from flyby.proxy._front cimport Front, Onward
from flyby.upstream._pool cimport Lease
from flyby.wire._fields cimport Fields
from flyby.wire._glance cimport Glance
from flyby.wire._head cimport HeadReader, RequestHead, ResponseHead


cdef class Passage(Onward):
    cdef readonly object context
    cdef readonly object match     # a router.Match whose path is nobody's
    cdef readonly object rules     # CacheRules
    cdef object _limits
    cdef object _take_up           # makes of a Relay what takes over from it
    cdef object _backend
    cdef str _host                 # what the origin is told: `origin`, `client` or a name
    cdef HeadReader _reader
    cdef object _store
    cdef object _clock
    cdef object _log
    cdef object _count             # of the metrics
    cdef tuple _targeted           # fields that stand in for Cache-Control
    cdef bint _guard_paths
    cdef bint _strip_tags
    cdef object _response_rules    # None when they do nothing

    cdef RequestHead _request(self, Front client, const unsigned char *base, const Glance *seen)


cdef class Relay:
    cdef Passage passage
    cdef readonly object context
    cdef readonly object downstream
    cdef readonly RequestHead request
    cdef readonly Lease lease
    cdef readonly bytes identity
    cdef readonly double started          # monotonic
    cdef readonly long long request_ms    # wall time
    cdef readonly long long first_byte_ms
    cdef readonly object since            # what had been purged by then: `Store.mark`
    cdef readonly object outcome
    cdef readonly object reason
    cdef readonly int status
    cdef public object stop               # what to call when the client leaves
    cdef bint _recorded

    cpdef interim(self, ResponseHead head)
    cpdef head(self, ResponseHead head)
    cpdef fail(self, error)
    cdef object _refusal(self, ResponseHead head)
    cdef bint _targeted(self, Fields fields) except -1
    cpdef finished(self)
