# cython: language_level=3
"""The map of the signposts: the routes of one configuration, for one scheme, as the fast lane reads them."""

from flyby.wire._glance cimport Glance

cdef struct Post:
    const unsigned char *host  # NULL: any
    Py_ssize_t host_length
    bint wildcard  # the name is only the end of the host
    bint ported  # a port of the host counts
    const unsigned char *prefix  # of the path; NULL: any
    Py_ssize_t prefix_length
    bint segments  # the prefix ends where a segment does
    const unsigned char *suffix  # of the path, behind the prefix; NULL: any
    Py_ssize_t suffix_length
    bint certain  # who fits host, prefix and suffix takes this route; else only the router knows
    bint plain  # requests on it may be answered by the fast lane
    bint preview  # no route without a host takes this one's host
    bint guard_cookies
    bint ignore_reload
    bint keeps_set_cookie
    const char *tail  # what the primary keys of this route end with: behind the URL, the backend
    Py_ssize_t tail_length
    int number  # of the route


cdef class Signpost:
    cdef Post *_posts
    cdef int _count
    cdef bint _previewed  # there are previews
    cdef list _kept  # the bytes that the posts point into
    cdef readonly list backends  # the name of each route's backend
    cdef readonly list rules  # the cache's, of each route

    cdef bint _is_preview(self, const unsigned char *name, Py_ssize_t length) noexcept nogil
    cdef const char *_keep(self, bytes value)
    cdef const Post *choose(
        self, const unsigned char *host, Py_ssize_t host_length, const unsigned char *path, Py_ssize_t path_length
    ) noexcept nogil


cdef Py_ssize_t key_on(
    const Post *post, bint secure, const unsigned char *base, const Glance *seen, char *to, Py_ssize_t room
) noexcept nogil
