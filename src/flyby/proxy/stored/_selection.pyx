# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Which variant a request selects, remembered: Vary in the fast lane (RFC 9111 4.1).

How a request's fields become the key of a variant is `variants.Marker`'s affair, and it takes parsing and sorting. But
of millions of requests few differ in the raw bytes of the fields that Vary names. So a small table keeps, for each
(marker's nonce, first Vary list, raw values of those fields) that was seen, the digest that they gave:

    SipHash-128 under the store's key, of  nonce │ list │ for each name: (length │ value)… │ 2^32 - 1   ─▶   digest

The nonce changes with every purge, and nobody can make two inputs meet who does not know the key. Only the first list
is tried; a request that finds nothing there takes the long way.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy

from flyby.policy.entry import EntryFlag
from flyby.store._serve cimport Attachment, Digest, Found, serve_digest, serve_done, serve_find
from flyby.wire._fields cimport Fields
from flyby.wire._glance cimport Glance, GlanceLimits, glance_any

from flyby.proxy.stored.variants import Marker

cdef enum:
    NONCE = 16
    DIGEST = 16

cdef uint32_t MARKER = EntryFlag.VARY_MARKER


cdef inline bint same_name(const unsigned char *name, const unsigned char *lower, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t index
    cdef unsigned char byte
    for index in range(length):
        byte = name[index]
        if c"A" <= byte <= c"Z":
            byte |= 0x20
        if byte != lower[index]:
            return False
    return True


@cython.final
cdef class Selection:
    def __cinit__(self):
        self._known = <Known *>calloc(KNOWN, sizeof(Known))
        self._material = <unsigned char *>malloc(MATERIAL)
        if self._known == NULL or self._material == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._known)
        free(self._material)

    cdef bint selects(
        self, Attachment store, bytes primary, bytes suffix, bytes request, const GlanceLimits *limits
    ) except -1:
        """Whether that request, which a glance recognises, selects the variant whose key ends so."""
        cdef Glance seen
        cdef Found marker
        cdef const unsigned char *base = <const unsigned char *>PyBytes_AS_STRING(request)
        cdef const char *key = PyBytes_AS_STRING(primary)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(primary)
        cdef unsigned char to[SUFFIX]
        cdef bint known
        if PyBytes_GET_SIZE(suffix) != SUFFIX or not glance_any(base, PyBytes_GET_SIZE(request), limits, &seen):
            return False
        if not serve_find(store, serve_digest(store, key, length), key, <uint32_t>length, &marker):
            return False
        try:
            known = marker.flags & MARKER and self.suffix(store, &marker, &seen, base, to)
        finally:
            serve_done(store, &marker)
        return known and memcmp(to, PyBytes_AS_STRING(suffix), SUFFIX) == 0

    cdef bint suffix(
        self, Attachment store, const Found *marker, const Glance *seen, const unsigned char *base, unsigned char *to
    ) except -1:
        """Write what the selected variant's key adds to the primary key; False where the long way must tell."""
        cdef const unsigned char *body = <const unsigned char *>marker.body
        cdef Py_ssize_t length = <Py_ssize_t>marker.length
        cdef Py_ssize_t start
        cdef const unsigned char *end
        cdef const unsigned char *name
        cdef const unsigned char *comma
        cdef Py_ssize_t used
        cdef uint32_t size
        cdef int index
        cdef Digest of
        cdef Known *known
        if body == NULL or length < NONCE + 2:
            return False
        start = NONCE + 2 + DIGEST * (<Py_ssize_t>body[NONCE] << 8 | body[NONCE + 1])
        if start >= length:
            return False
        end = <const unsigned char *>memchr(body + start, c"\n", length - start)
        if end == NULL:
            end = body + length
        used = NONCE + (end - body - start)
        if used > MATERIAL // 2:
            return False
        memcpy(self._material, body, NONCE)
        memcpy(self._material + NONCE, body + start, end - body - start)
        name = body + start
        while name < end:
            comma = <const unsigned char *>memchr(name, c",", end - name)
            if comma == NULL:
                comma = end
            for index in range(seen.count):
                if seen.names[index].length != <unsigned int>(comma - name):
                    continue
                if not same_name(base + seen.names[index].start, name, comma - name):
                    continue
                size = seen.values[index].length
                if used + <Py_ssize_t>size + 8 > MATERIAL:
                    return False
                memcpy(self._material + used, &size, 4)
                memcpy(self._material + used + 4, base + seen.values[index].start, size)
                used += 4 + size
            if used + 4 > MATERIAL:
                return False
            size = 0xFFFFFFFF
            memcpy(self._material + used, &size, 4)
            used += 4
            name = comma + 1
        of = serve_digest(store, <const char *>self._material, used)
        known = &self._known[of.low & (KNOWN - 1)]
        if known.of.low != of.low or known.of.high != of.high:
            self._work_out(body, length, seen, base, known.digest)
            known.of = of
        to[0] = 0
        memcpy(to + 1, body, NONCE)
        memcpy(to + 1 + NONCE, known.digest, DIGEST)
        return True

    cdef int _work_out(
        self, const unsigned char *body, Py_ssize_t length, const Glance *seen, const unsigned char *base,
        unsigned char *to,
    ) except -1:
        """The digest as the long way makes it."""
        cdef Fields fields = Fields()
        cdef int index
        for index in range(seen.count):
            fields.add(
                PyBytes_FromStringAndSize(<const char *>base + seen.names[index].start, seen.names[index].length),
                PyBytes_FromStringAndSize(<const char *>base + seen.values[index].start, seen.values[index].length),
            )
        marker = Marker.decode(PyBytes_FromStringAndSize(<const char *>body, length))
        memcpy(to, PyBytes_AS_STRING(marker.digest(marker.lists[0], fields)), DIGEST)
        return 0
