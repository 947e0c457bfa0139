"""The map of the writing side of an upstream connection."""


cdef class Outgoing:
    cdef object _loop
    cdef object _transport   # None before it is made and once it is gone
    cdef int _descriptor     # of the socket, to ask whether it is quiet; -1 when there is none
    cdef int fd              # the same where bytes may go past the transport: plain TCP
    cdef bint _queued        # the transport was given bytes, which may still wait there
    cdef bint _paused        # it holds more than WRITE_HIGH_WATER
    cdef object _drained     # a future for who waits until it does not

    cdef int attach(self, transport) except -1
    cdef int forget(self) except -1
    cdef bint open(self) except -1
    cdef bint quiet(self) except -1
    cdef int write(self, bytes data) except -1
    cdef int put(self, const char *data, Py_ssize_t length) except -1
    cdef bint unsent(self) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef object wait(self)
