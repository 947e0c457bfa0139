# cython: language_level=3
"""The map of one request and its one response."""

from flyby.proxy.road._downstream cimport Downstream, Occupant
from flyby.wire._glance cimport Glance, Span
from flyby.wire._head cimport RequestHead


cdef class Exchange(Occupant):
    # The request.
    cdef public object context
    cdef public Downstream downstream
    cdef RequestHead _request        # None until somebody asks for it, where `text` is there
    cdef bytes text                  # the head as it came, where a glance recognised it; else None
    cdef Span verb
    cdef Span target
    cdef Span host
    cdef Span user_agent
    cdef Span referer
    cdef bytes _identity
    cdef public double started       # monotonic, seconds
    cdef object _client              # who asks (`client.Client`); None until its arrival was read
    # The decision.
    cdef public object match         # where the route leads
    cdef public object rules         # CacheRules of the route
    cdef public object seams         # points and chains of the route (`context.Seams`); None: it has none
    cdef public str backend_name
    cdef public bytes path           # as the origin is asked
    cdef public bytes primary        # the resource's key
    cdef public bytes claim_key      # the key under which the response is, or would be, stored
    cdef public object since         # what had been purged when the origin was asked: `Store.mark`
    cdef public tuple extra_tags     # given to what is stored, beside the tags that the response names
    cdef public bytes own_lines      # field lines of the edge's own, for this client alone
    cdef public object source        # what produces the response (`source.Source`), while something does
    # The fate.
    cdef public object outcome
    cdef public object reason
    cdef public int status
    cdef public double first_byte_ms     # from the request's sending to the origin's head; -1: it was not asked
    cdef public object broken            # the UpstreamError that cut a begun response off, or None
    cdef readonly bint gone              # the client has left
    cdef object recorder             # writes the record by `record`, where that takes no object; or None
    cdef bint _recorded

    cdef RequestHead head_of_request(self)
    cpdef RequestHead as_sent(self)
    cpdef note(self, outcome, reason, int status)
    cpdef client_lost(self)
    cpdef client_ended(self)
    cpdef finished(self)
    cpdef fail(self, error)
    cpdef cut_off(self, error)


cdef Exchange exchange_of(context, Downstream client, const unsigned char *base, const Glance *seen, double started)
