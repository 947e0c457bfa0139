# cython: language_level=3
"""The map of a response's content on its way."""

from flyby.proxy.fetching._asking cimport Asking
from flyby.store._fill cimport Fill
from flyby.wire._head cimport ResponseHead

cdef enum Way:     # of the content
    NOWHERE = 0
    CLIENT = 1     # as it comes, at the client's pace
    STORE = 2      # into the Fill, from where the client reads along
    HELD = 3       # the Fill is full: the origin waits until the client has read it
    WINDOW = 4     # the Fill is a window: the origin waits for its slowest reader


cdef class Streaming(Asking):
    cdef readonly ResponseHead response
    cdef Way _way
    cdef object _joined              # partial.Joined, where what comes completes a stored part
    cdef object _incoming            # the fetch chain of the route, or None
    cdef long long _written          # bytes of content that the Fill has taken
    cdef long long _offset           # of the Fill: so far the client has read
    cdef long long _limit            # of the Fill: so far it will read; -1: to its end
    cdef bytes _overflow             # what the Fill did not take, or not yet; None: all of it
    cdef Fill _reader                # the client's own place among the readers of a window
    cdef bint _half_closed           # the client sends nothing more
    cdef double _heard               # monotonic: when a byte last came, while `_half_closed`
    cdef object _timer               # of the origin's silence, meanwhile
    cdef double _behind              # monotonic: since when the client's rate counts; 0 while it was never behind
    cdef long long _behind_taken     # what its socket had taken by then, in bytes

    cpdef data(self, view)
    cpdef end(self, trailers)
    cdef int _to_client(self) except -1
    cdef int _fell_behind(self) except -1
    cdef int _read_along(self) except -1
    cdef int _read_on(self) except -1
    cdef int _outgrow(self, view) except -1
    cdef int _fill_window(self) except -1
    cdef int _content_over(self, trailers) except -1
    cdef bint _has_followers(self) except -1
    cdef int _let_reader_go(self) except -1
    cdef int _let_fill_go(self, int ended) except -1
    cdef int _settled(self) except -1
    cdef int _stop_timer(self) except -1
