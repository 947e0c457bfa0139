"""The map of what carries exchanges with an origin."""


cdef class UpstreamExchange:
    cdef public double born            # on the clock of whoever pools it
    cdef public long long generation   # of leases
    cdef public bint donated           # it was accepted, not dialled: as old as a kept one before its first exchange
    cdef public bint detached          # its transport has gone to another protocol
    cdef public bint surplus           # bytes have come that belong to no response
    cdef public object on_closed       # called once with it when it is gone or detached; or None
    cdef public bint finishing         # the response has ended, and the rest of the request is still on its way
    cdef object _on_finished           # called once when that is over; or None

    cpdef bint at_rest(self)
    cpdef bint quiet(self)
    cpdef send(self, data, bint more=*)
    cpdef finish_request(self)
    cpdef expect(self, bytes method, receiver, timeout=*)
    cpdef stream(self, sink)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef abort(self)
    cpdef close(self)
    cpdef bint is_write_paused(self)
    cpdef on_drained(self, callback)

    cpdef finished(self)
