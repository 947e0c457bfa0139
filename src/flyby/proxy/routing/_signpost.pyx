# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Which route a request takes, where host, path prefix and ending decide it: the router's answer in a few comparisons.

`choose` walks the routes in their order, as `Router.match` does. The first that fits wins if the fast lane can serve
it; a route that might fit, but asks for more (captures, request fields), ends the walk: then the router is asked. So
does a route that redirects, that shares its requests out among backends, that is not cached, or whose key is not the
plain one.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from flyby.wire._glance cimport Glance
from flyby.wire._put cimport put


@cython.final
cdef class Signpost:
    def __cinit__(self, signs, bytes scheme):
        """`signs` is `Router.signs()` with the cache's rules beside each: (Sign, CacheRules)."""
        cdef Post *post
        self._kept = []
        self.backends = []
        self.rules = []
        self._posts = <Post *>calloc(len(signs) + 1, sizeof(Post))
        if self._posts == NULL:
            raise MemoryError
        for number, (sign, rules) in enumerate(signs):
            self.backends.append(sign.backend)
            self.rules.append(rules)
            if sign.scheme is not None and sign.scheme != scheme:
                continue
            post = &self._posts[self._count]
            self._count += 1
            post.number = number
            if sign.host is not None:
                post.host = <const unsigned char *>self._keep(sign.host)
                post.host_length = len(sign.host)
                post.wildcard = sign.wildcard
                post.ported = sign.ported
            if sign.prefix is not None:
                post.prefix = <const unsigned char *>self._keep(sign.prefix)
                post.prefix_length = len(sign.prefix)
                post.segments = sign.segments
            if sign.suffix is not None:
                post.suffix = <const unsigned char *>self._keep(sign.suffix)
                post.suffix_length = len(sign.suffix)
            post.certain = sign.certain
            post.plain = sign.serves and not (
                rules.query_allow is not None or rules.query_deny is not None
                or rules.ignore_cookies is not None or rules.keep_cookies is not None
            )
            post.preview = sign.preview
            self._previewed = self._previewed or sign.preview
            post.guard_cookies = rules.points.guard_cookies
            post.ignore_reload = rules.points.ignore_reload
            post.keeps_set_cookie = rules.keeps_set_cookie
            tail = b"\0" + (rules.owner or sign.backend.encode())
            post.tail = self._keep(tail)
            post.tail_length = len(tail)

    def __dealloc__(self):
        free(self._posts)

    cdef const char *_keep(self, bytes value):
        self._kept.append(value)
        return PyBytes_AS_STRING(value)

    cdef const Post *choose(
        self, const unsigned char *host, Py_ssize_t host_length, const unsigned char *path, Py_ssize_t path_length
    ) noexcept nogil:
        """The route to serve from; NULL when the router must be asked. The path is without its query."""
        cdef const Post *post
        cdef Py_ssize_t name_length = 0
        cdef Py_ssize_t length
        cdef int number
        # Never an IPv6 literal here, so the first colon is the port's.
        while name_length < host_length and host[name_length] != c":":
            name_length += 1
        for number in range(self._count):
            post = &self._posts[number]
            if post.host != NULL:
                length = host_length if post.ported else name_length
                if post.wildcard:
                    if length <= post.host_length:
                        continue
                elif length != post.host_length:
                    continue
                if memcmp(host + length - post.host_length, post.host, post.host_length):
                    continue
            elif self._previewed and self._is_preview(host, name_length):
                continue
            if post.prefix != NULL:
                length = post.prefix_length
                if path_length < length or memcmp(path, post.prefix, length):
                    continue
                if post.segments and path_length > length and post.prefix[length - 1] != c"/" and path[length] != c"/":
                    continue
            if post.suffix != NULL:
                length = post.suffix_length
                if path_length < post.prefix_length + length:
                    continue
                if memcmp(path + path_length - length, post.suffix, length):
                    continue
            return post if post.certain and post.plain else NULL
        return NULL

    cdef bint _is_preview(self, const unsigned char *name, Py_ssize_t length) noexcept nogil:
        cdef const Post *post
        cdef int number
        for number in range(self._count):
            post = &self._posts[number]
            if post.preview and post.host_length == length and memcmp(post.host, name, length) == 0:
                return True
        return False

    def choice(self, bytes host not None, bytes path not None):
        """The number of the route chosen, None where the router must be asked; for the tests."""
        cdef const Post *post = self.choose(
            <const unsigned char *>PyBytes_AS_STRING(host), PyBytes_GET_SIZE(host),
            <const unsigned char *>PyBytes_AS_STRING(path), PyBytes_GET_SIZE(path),
        )
        return None if post == NULL else post.number


cdef Py_ssize_t key_on(
    const Post *post, bint secure, const unsigned char *base, const Glance *seen, char *to, Py_ssize_t room
) noexcept nogil:
    """Write the primary key of the request's resource on that route; its length, 0 where there is no room for it.

    See `policy.primary_key` and `resource.resource_key`.
    """
    cdef Py_ssize_t length = 6 + secure + seen.host.length + seen.target.length + post.tail_length
    if length > room:
        return 0
    to = put(to, "https " if secure else "http ", 6 if secure else 5)
    to = put(to, <const char *>base + seen.host.start, seen.host.length)
    to = put(to, " ", 1)
    to = put(to, <const char *>base + seen.target.start, seen.target.length)
    put(to, post.tail, post.tail_length)
    return length
