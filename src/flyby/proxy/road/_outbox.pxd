# cython: language_level=3
"""The map of a connection's outgoing side."""

from libc.stdint cimport int64_t

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef enum:
    RECORD = 16_384  # bytes of a whole TLS record
    ROUND = 65_536  # that a transport is given at a time, to be encrypted: more spills the processor's caches


cdef class Pieces:
    cdef object _source
    cdef Py_ssize_t _offset
    cdef Py_ssize_t _end

    cdef object take(self)


cdef class Outbox:
    cdef object _transport
    cdef int _fd  # of a plain socket; -1 where only the transport can write (TLS)
    cdef bint _queued  # the transport was given bytes, and was not seen empty since
    cdef bytes _held
    cdef list _ready  # what `pump` will send; None when there is nothing
    cdef public int64_t sent

    cpdef hold(self, bytes head)
    cpdef release(self)
    cpdef write(self, list chunks)
    cpdef clear(self)
    cpdef bint retract(self)
    cdef int send_parts(self, iovec *parts, int count, size_t total) except -1
    cdef bint clear_way(self) except -1
    cdef int64_t taken(self) except -1
    cdef int64_t _direct(self, list chunks) except -2
    cdef int64_t gather(self, iovec *parts, int count, size_t total) except -2


cdef bytes joined(iovec *parts, int count, size_t skipped)
cdef object next_round(list chunks)
