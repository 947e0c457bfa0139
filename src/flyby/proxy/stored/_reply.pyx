# cython: language_level=3
# cython: boundscheck=False, wraparound=False, cdivision=True
"""What a hit adds to the stored head, and the head of a 304 (RFC 9110 15.4.5).

    stored head, as it is │ Age │ Cache-Status │ Content-Length │ CRLF │ body
    304 status line │ the stored lines that a 304 repeats │ Age │ Cache-Status │ CRLF

The words are those of `hit.py` and of policy's `cache_status`; plays ask both roads the same and compare
the answers byte for byte.
"""

from libc.string cimport memchr, memcpy

from flyby.wire._glance cimport named

cdef const char *NOT_MODIFIED = "HTTP/1.1 304 Not Modified\r\n"


cdef inline char *put(char *to, const char *text, Py_ssize_t length) noexcept nogil:
    memcpy(to, text, length)
    return to + length


cdef inline char *put_number(char *to, int64_t number) noexcept nogil:
    cdef char digits[24]
    cdef int at = 24
    while True:
        at -= 1
        digits[at] = <char>(c"0" + number % 10)
        number //= 10
        if not number:
            break
    return put(to, digits + at, 24 - at)


cdef char *put_added(char *to, int64_t age_s, int64_t ttl_s, int64_t length) noexcept nogil:
    """What follows the stored head: our fields, Content-Length unless it is negative, and the empty line."""
    to = put_number(put(to, "Age: ", 5), age_s)
    to = put_number(put(to, "\r\nCache-Status: flyby; hit; ttl=", 32), ttl_s)
    if length >= 0:
        to = put_number(put(to, "\r\nContent-Length: ", 18), length)
    return put(to, "\r\n\r\n", 4)


cdef inline bint begins(const unsigned char *line, Py_ssize_t length, const char *name, Py_ssize_t size) noexcept nogil:
    return length > size and named(line, name, size)


cdef inline bint repeated(const unsigned char *line, Py_ssize_t length) noexcept nogil:
    """Whether a 304 repeats the stored line (`hit._IN_304`)."""
    cdef unsigned char first = line[0] | 0x20
    if first == c"c":
        return (
            begins(line, length, "cache-control:", 14)
            or begins(line, length, "content-location:", 17)
            or begins(line, length, "cdn-cache-control:", 18)
        )
    if first == c"d":
        return begins(line, length, "date:", 5)
    if first == c"e":
        return begins(line, length, "etag:", 5) or begins(line, length, "expires:", 8)
    if first == c"l":
        return begins(line, length, "last-modified:", 14)
    return first == c"v" and (begins(line, length, "vary:", 5) or begins(line, length, "via:", 4))


cdef char *put_unmodified(char *to, const char *head, Py_ssize_t length) noexcept nogil:
    """The head of a 304 for a stored head; room for the head and 32 bytes is needed."""
    cdef const char *end = head + length
    cdef const char *line = <const char *>memchr(head, c"\n", length)
    cdef const char *next
    to = put(to, NOT_MODIFIED, 27)
    while line != NULL and line + 1 < end:
        line += 1
        next = <const char *>memchr(line, c"\n", end - line)
        if next == NULL:
            break
        if repeated(<const unsigned char *>line, next - line):
            to = put(to, line, next + 1 - line)
        line = next
    return to


def added(int64_t age_s, int64_t ttl_s, int64_t length):
    """`put_added` as bytes, for the tests."""
    cdef char text[MOST_ADDED]
    return text[: put_added(text, age_s, ttl_s, length) - text]


def unmodified(bytes head not None):
    """`put_unmodified` as bytes, for the tests."""
    cdef bytearray text = bytearray(len(head) + 32)
    cdef char *start = text
    return bytes(text[: put_unmodified(start, head, len(head)) - start])
