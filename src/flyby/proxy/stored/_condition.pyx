# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""What the fast lane judges about a stored response: may the request have it, has what the client holds changed (RFC
9110 13.1.2, 13.1.3), and which part of it is asked for (13.1.5, 14.2)?

If-None-Match with one well-formed entity tag is compared with the stored ETag; If-Modified-Since that is byte for byte
the stored Last-Modified needs no arithmetic on dates. All else is UNCLEAR, and policy's `evaluate` judges it; the tests
let it judge these too. An If-Range that holds is one that is byte for byte the stored ETag or Last-Modified, where that
is a strong validator (`policy.if_range_matches`).
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp

from flyby.policy.conditional import strong_last_modified
from flyby.policy.dates import parse_http_date
from flyby.policy.entry import EntryFlag
from flyby.wire import Fields

from flyby.policy._range cimport RangeSpec, range_specs, range_within
from flyby.proxy.routing._signpost cimport Post
from flyby.proxy.stored._reply cimport stored_value
from flyby.store._serve cimport Found
from flyby.wire._glance cimport (
    AUTHORIZATION, COOKIE, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, PRECONDITION, RANGE,
)

cdef enum:
    MOST_DATES = 4096

cdef unsigned int ASKS_MORE = AUTHORIZATION | PRECONDITION
cdef unsigned int UNMODIFIED = IF_NONE_MATCH | IF_MODIFIED_SINCE
cdef unsigned int IN_PART = RANGE | IF_RANGE
cdef uint32_t NO_PLAIN_HIT = (
    EntryFlag.HIT_FOR_MISS | EntryFlag.VARY_MARKER | EntryFlag.NO_CACHE | EntryFlag.PARTIAL
)
cdef uint32_t COOKIELESS = EntryFlag.COOKIELESS
cdef uint32_t SET_COOKIE = EntryFlag.SET_COOKIE


cdef bint fresh_for(const Post *post, const Glance *seen, const Found *found, int64_t now_ms) noexcept nogil:
    """Whether `policy.reuse` would say FRESH, and what else the request says can be judged here."""
    if seen.seen & ASKS_MORE or found.flags & NO_PLAIN_HIT or found.fresh_ms <= now_ms:
        return False
    if found.status < 200 or found.status == 204 or found.status == 206 or found.status == 304:
        return False
    # `policy.allowed_for`
    if post.guard_cookies and seen.seen & COOKIE and found.flags & COOKIELESS:
        return False
    if found.flags & SET_COOKIE and not post.keeps_set_cookie:
        return False
    if seen.seen & (UNMODIFIED | IN_PART):
        if found.status != 200 or seen.again & (UNMODIFIED | IN_PART):
            return False
        # Conditions come before Range (RFC 9110 13.2.2); If-Range alone, and Range beside HEAD, are ignored (14.2).
        if seen.seen & IN_PART and (seen.seen & UNMODIFIED or not seen.seen & RANGE or seen.is_head):
            return False
    return True


@cython.final
cdef class Conditions:
    def __cinit__(self):
        self._dates = set()
        self._strong = set()

    cdef Condition judge(self, const unsigned char *base, const Glance *seen, const Found *found) except *:
        """The request's condition: If-Modified-Since counts for nothing beside If-None-Match (RFC 9110 13.2.2)."""
        cdef bytes date
        if seen.seen & IF_NONE_MATCH:
            return none_match(
                base + seen.if_none_match.start, seen.if_none_match.length, found.head, found.head_length
            )
        if not unmodified_since(
            base + seen.if_modified_since.start, seen.if_modified_since.length, found.head, found.head_length
        ):
            return UNCLEAR
        # Two things that are the same are only the same date if they are one.
        date = PyBytes_FromStringAndSize(
            <const char *>base + seen.if_modified_since.start, seen.if_modified_since.length
        )
        if date not in self._dates:
            if parse_http_date(date) is None:
                return UNCLEAR
            if len(self._dates) >= MOST_DATES:
                self._dates.clear()
            self._dates.add(date)
        return UNCHANGED

    cdef bint part(
        self, const unsigned char *base, const Glance *seen, const Found *found, int64_t *first, int64_t *last
    ) except -1:
        """Which bytes the request's Range asks for; False where that is not one part of them (RFC 9110 14.2)."""
        cdef RangeSpec spec
        cdef Py_ssize_t length = 0
        cdef int count
        return (
            range_specs(base + seen.range.start, seen.range.length, &spec, 1) == 1
            and range_within(&spec, found.length, first, last)
            and stored_value(found.head, found.head_length, "content-range: ", 15, &length, &count) == NULL
            and self._lets_range(base, seen, found)
        )

    cdef bint _lets_range(self, const unsigned char *base, const Glance *seen, const Found *found) except -1:
        """Whether the request's If-Range, if it has one, is known to let Range be honoured (RFC 9110 13.1.5)."""
        cdef const unsigned char *value = base + seen.if_range.start
        cdef Py_ssize_t length = seen.if_range.length
        cdef const char *modified
        cdef const char *date
        cdef Py_ssize_t modified_length = 0, date_length = 0
        cdef int count = 0
        if not seen.seen & IF_RANGE:
            return True
        if entity_tag(value, length):
            modified = stored_value(found.head, found.head_length, "etag: ", 6, &modified_length, &count)
            return modified != NULL and modified_length == length and memcmp(modified, value, length) == 0
        if not unmodified_since(value, length, found.head, found.head_length):
            return False
        date = stored_value(found.head, found.head_length, "date: ", 6, &date_length, &count)
        if date == NULL or count != 1:
            return False
        key = (PyBytes_FromStringAndSize(<const char *>value, length), PyBytes_FromStringAndSize(date, date_length))
        if key not in self._strong:
            if strong_last_modified(Fields([(b"Last-Modified", key[0]), (b"Date", key[1])])) is None:
                return False
            if len(self._strong) >= MOST_DATES:
                self._strong.clear()
            self._strong.add(key)
        return True


cdef inline bint entity_tag(const unsigned char *tag, Py_ssize_t length) noexcept nogil:
    """Whether that is one well-formed opaque-tag, without W/ (RFC 9110 8.8.3)."""
    cdef Py_ssize_t index
    if length < 2 or tag[0] != 0x22 or tag[length - 1] != 0x22:
        return False
    for index in range(1, length - 1):
        if tag[index] <= 0x20 or tag[index] == 0x22 or tag[index] == 0x7F:
            return False
    return True


cdef Condition none_match(
    const unsigned char *value, Py_ssize_t length, const char *head, Py_ssize_t head_length
) noexcept nogil:
    """What an If-None-Match of exactly one entity tag says of the stored response; anything else is UNCLEAR."""
    cdef const char *tag
    cdef Py_ssize_t stored = 0
    cdef int count
    if length > 2 and value[0] == c"W" and value[1] == c"/":
        value += 2
        length -= 2
    if not entity_tag(value, length):
        return UNCLEAR
    tag = stored_value(head, head_length, "etag: ", 6, &stored, &count)
    if tag == NULL:
        return CHANGED
    if stored > 2 and tag[0] == c"W" and tag[1] == c"/":
        tag += 2
        stored -= 2
    return UNCHANGED if stored == length and memcmp(tag, value, length) == 0 else CHANGED


cdef bint unmodified_since(
    const unsigned char *value, Py_ssize_t length, const char *head, Py_ssize_t head_length
) noexcept nogil:
    """Whether that is, byte for byte, the stored response's one Last-Modified."""
    cdef Py_ssize_t stored = 0
    cdef int count
    cdef const char *date = stored_value(head, head_length, "last-modified: ", 15, &stored, &count)
    return date != NULL and count == 1 and stored == length and memcmp(date, value, length) == 0


def condition(bytes value not None, bytes head not None):
    """`none_match`, for the tests: 304, 200, or None where it is unclear."""
    return (None, 200, 304)[none_match(<const unsigned char *><const char *>value, len(value), head, len(head))]


def since(bytes value not None, bytes head not None):
    """`unmodified_since`, for the tests."""
    return unmodified_since(<const unsigned char *><const char *>value, len(value), head, len(head))
