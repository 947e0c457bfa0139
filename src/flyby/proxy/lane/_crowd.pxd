# cython: language_level=3
"""The map of who waits for a fetch of the store's, in one worker."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.proxy.http1._connection cimport Connection
from flyby.proxy.road._downstream cimport Onward
from flyby.proxy.road._exchange cimport Exchange
from flyby.proxy.road._outbox cimport iovec
from flyby.proxy.stored._selection cimport Selection
from flyby.store._serve cimport Attachment, Digest, Fill
from flyby.wire._glance cimport GlanceLimits


cdef class Crowds:
    cdef readonly object context
    cdef object _limits
    cdef GlanceLimits _glances[2]   # of http and https
    cdef Selection _selection
    cdef dict _open                 # the low half of a key's digest -> the Crowd that may still be joined

    cdef Crowd awaited(
        self, Attachment store, const char *key, Py_ssize_t length, Digest digest, str backend, object rules
    )


cdef class Crowd(Onward):
    cdef Crowds _crowds
    cdef Attachment _store
    cdef Fill _fill                 # None: the crowd has dispersed
    cdef object _told               # what the Fill calls
    cdef object _loop
    cdef object _timer              # of `overdue`
    cdef object _name               # in `_crowds._open`
    cdef str _backend
    cdef object _rules              # the cache's, of the route on which all of them are
    cdef bytes _key                 # a primary key
    cdef double _patience           # seconds without a sign of the fetch that a request waits
    cdef double _heard              # monotonic: the last such sign; 0: none yet
    cdef list _followers            # in the order in which they came
    cdef int _count                 # those of them that are still here
    cdef bint _due                  # `advance` will be called
    cdef bint _lingered             # the head has waited for its content
    cdef bint _begun                # the head is known: nobody joins any more
    cdef bint _headed               # the head has been sent
    cdef object _framing            # BodyKind
    cdef uint64_t _offset           # of the content, which all of them have been given up to there
    cdef bytes _head                # with the framing fields; how it ends is each one's own
    cdef readonly int status

    cdef bint _takes(self, const char *key, Py_ssize_t length, object rules) except -1
    cdef int _go_on(self) except -1
    cdef int _begin(self) except -1
    cdef int _send(self, uint32_t state) except -1
    cdef bint _give(self, Follower follower, iovec *parts, int count) except -1
    cdef int _hand_over(self, Follower follower) except -1
    cdef int _gone(self, Follower follower) except -1
    cdef int _release(self, list followers, ended) except -1
    cdef int _break_off(self) except -1
    cdef int _close(self) except -1
    cdef int _disperse(self) except -1


cdef class Follower:
    cdef Crowd _crowd
    cdef Connection _client
    cdef Exchange _exchange
    cdef uint64_t _since            # what had been purged when it came
    cdef bint _cookies              # it has some
    cdef bint _here                 # it is the crowd's business

    cdef int resume(self, ended) except -1
