# cython: language_level=3
"""The map of the fast lane of one worker."""

from libc.stdint cimport int64_t, uint64_t

from flyby.proxy.stored._condition cimport Conditions
from flyby.proxy.lane._account cimport Account, Answer
from flyby.proxy.lane._crowd cimport Crowds
from flyby.proxy.road._downstream cimport Downstream, Errand, Onward, ShortCut
from flyby.proxy.road._outbox cimport iovec
from flyby.proxy.stored._selection cimport Selection
from flyby.proxy.routing._signpost cimport Post, Signpost
from flyby.store._serve cimport Attachment, Digest, Entry, Found
from flyby.wire._glance cimport Glance, GlanceLimits

cdef enum:
    BATCH = 64  # requests that are answered with one write
    PARTS = 129  # of that write: before each body a head, and one more


cdef class Lane(ShortCut):
    cdef const unsigned char *_input  # the read buffer
    cdef readonly uint64_t hits  # answers given
    cdef readonly uint64_t passed  # requests passed on, or that wait for the answer to another
    # The configuration, changed by `use`.
    cdef Attachment _store
    cdef Signpost _posts  # of http
    cdef Signpost _secure_posts  # of https
    cdef GlanceLimits _limits[2]  # of both
    cdef list _forwarders  # what sends requests on by each route, or None
    cdef bytes _reserved  # what begins the paths that are flyby's own on every host
    cdef object _clock  # None: the machine's own
    cdef double _idle_s
    cdef Account _account  # counts and logs every answer
    cdef Crowds _crowds  # who wait for a fetch of the store's
    cdef Errand _errand  # what it is to do
    cdef Entry _stale  # what it is to validate, or None
    cdef int64_t _mark_fresh_ms  # until when the mark lasts that was found
    cdef Onward _onward  # where the request goes that the lane stopped at, if not the long way
    # The write that is being put together.
    cdef Selection _selection
    cdef Conditions _conditions
    cdef int64_t _now_ms
    cdef double _now
    cdef bint _full
    cdef int _count  # answers
    cdef Answer _answers[BATCH]
    cdef int _part_count
    cdef iovec _parts[PARTS]
    cdef Found _pinned[PARTS]  # the object that a part lies in, held until it is sent
    cdef int64_t _total
    cdef char *_out
    cdef size_t _used
    cdef char *_key  # the primary key of the last request that was looked at
    cdef Py_ssize_t _key_length
    cdef Digest _digest  # of the primary key
    cdef Py_ssize_t _missed  # the length of a primary key under which nothing lies; 0: something does

    cdef void _read_clocks(self)
    cdef bint _answer(self, Downstream client, const unsigned char *base, const Glance *seen) except -1
    cdef Py_ssize_t _send_on(self, Downstream client, Py_ssize_t used, Py_ssize_t length, const Glance *seen) except -1
    cdef void _aim(self, Signpost posts, const Post *post, Errand errand) noexcept
    cdef bint _look_up(self, const unsigned char *base, const Glance *seen, Found *found) except -1
    cdef bint _put(self, Downstream client, const unsigned char *base, const Glance *seen, Found *found) except -1
    cdef char *_put_body(self, Found *found, int64_t first, int64_t length, char *to) noexcept
    cdef void _told(self, Downstream client, const unsigned char *base, const Glance *seen, int status) noexcept
    cdef void _add_text(self, char *start, size_t length) noexcept
    cdef void _add_part(self, char *start, size_t length, Found *pinned) noexcept
    cdef bint _send(self, Downstream client) except -1
    cdef bint _send_by_transport(self, Downstream client) except -1
    cdef void _unpin(self) noexcept
    cdef int _finished(self, Downstream client) except -1
    cdef list _taken(self, int64_t skipped)
    cdef int _leave(self, Downstream client, int64_t done, list chunks) except -1
