# cython: language_level=3
# cython: boundscheck=False, wraparound=False, cdivision=True
"""What a hit adds to the stored head, and the heads of a 304 (RFC 9110 15.4.5) and of a 206 (15.3.7).

    stored head, as it is │ Age │ Cache-Status │ Content-Length │ CRLF │ body
    304 status line │ the stored lines that a 304 repeats │ Age │ Cache-Status │ CRLF
    206 status line │ the stored lines │ Content-Range │ Age │ Cache-Status │ Content-Length │ CRLF │ bytes

The words are those of `hit.py` and of policy's `cache_status`; plays ask both roads the same and compare
the answers byte for byte.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memchr

from flyby.wire._glance cimport named
from flyby.wire._put cimport put, put_number

cdef enum:
    MOST_NAMES = 16

cdef const char *NOT_MODIFIED = "HTTP/1.1 304 Not Modified\r\n"
cdef const char *PARTIAL_CONTENT = "HTTP/1.1 206 Partial Content\r\n"

MOST_ROOM = MOST_ADDED

# What a 304 repeats of the stored head (RFC 9110 15.4.5), beside what describes the exchange itself.
IN_304 = (
    b"cache-control",
    b"cdn-cache-control",
    b"content-location",
    b"date",
    b"etag",
    b"expires",
    b"vary",
    b"via",
    b"last-modified",
)

cdef const char *repeated_names[MOST_NAMES]  # of IN_304, in whose bytes they lie
cdef Py_ssize_t repeated_lengths[MOST_NAMES]
cdef int repeated_count = 0
cdef uint32_t initials = 0  # a bit for each letter that one of them begins with

for name in IN_304:
    repeated_names[repeated_count] = PyBytes_AS_STRING(name)
    repeated_lengths[repeated_count] = PyBytes_GET_SIZE(name)
    repeated_count += 1
    initials |= 1 << (name[0] & 31)
del name


cdef char *put_added(char *to, int64_t age_s, int64_t ttl_s, bint guessed, int64_t length) noexcept nogil:
    """What follows the stored head: our fields, Content-Length unless it is negative, and the empty line.

    `guessed` says that the freshness was (`policy.guessed`).
    """
    to = put_number(put(to, "Age: ", 5), age_s)
    to = put_number(put(to, "\r\nCache-Status: flyby; hit; ttl=", 32), ttl_s)
    if guessed:
        to = put(to, "; detail=guessed", 16)
    if length >= 0:
        to = put_number(put(to, "\r\nContent-Length: ", 18), length)
    return put(to, "\r\n\r\n", 4)


cdef inline bint repeated(const unsigned char *line, Py_ssize_t length) noexcept nogil:
    """Whether a 304 repeats the stored line."""
    cdef int number
    cdef Py_ssize_t size
    if not initials >> (line[0] & 31) & 1:
        return False
    for number in range(repeated_count):
        size = repeated_lengths[number]
        if length > size and line[size] == c":" and named(line, repeated_names[number], size):
            return True
    return False


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


cdef const char *stored_value(
    const char *head, Py_ssize_t head_length, const char *lower, Py_ssize_t size, Py_ssize_t *length, int *count
) noexcept nogil:
    """The value of the first line of that name (`lower`, with its colon and space) in a stored head, NULL if none is.

    `count` says how many such lines there are.
    """
    cdef const char *end = head + head_length
    cdef const char *line = <const char *>memchr(head, c"\n", head_length)
    cdef const char *next
    cdef const char *found = NULL
    count[0] = 0
    while line != NULL and line + 1 < end:
        line += 1
        next = <const char *>memchr(line, c"\n", end - line)
        if next == NULL:
            break
        if next - line > size and named(<const unsigned char *>line, lower, size):
            count[0] += 1
            if found == NULL:
                found = line + size
                length[0] = next - 1 - found
        line = next
    return found


cdef char *put_partial(
    char *to, const char *head, Py_ssize_t length, int64_t first, int64_t last, int64_t total
) noexcept nogil:
    """The status line, the stored lines and Content-Range of a 206 (RFC 9110 14.4), for a head without Content-Range.

    MOST_ADDED has room for what `put_added` adds to it, too.
    """
    cdef const char *line = <const char *>memchr(head, c"\n", length)
    to = put(to, PARTIAL_CONTENT, 30)
    if line != NULL:
        to = put(to, line + 1, head + length - line - 1)
    to = put_number(put(to, "Content-Range: bytes ", 21), first)
    to = put_number(put(to, "-", 1), last)
    to = put_number(put(to, "/", 1), total)
    return put(to, "\r\n", 2)


def added(int64_t age_s, int64_t ttl_s, bint guessed, int64_t length):
    """`put_added` as bytes, for the tests."""
    cdef char text[MOST_ADDED]
    return text[: put_added(text, age_s, ttl_s, guessed, length) - text]


def unmodified(bytes head not None):
    """`put_unmodified` as bytes, for the tests."""
    cdef bytearray text = bytearray(len(head) + 32)
    cdef char *start = text
    return bytes(text[: put_unmodified(start, head, len(head)) - start])


def partial(bytes head not None, int64_t first, int64_t last, int64_t total):
    """`put_partial` as bytes, for the tests."""
    cdef bytearray text = bytearray(len(head) + MOST_ADDED)
    cdef char *start = text
    return bytes(text[: put_partial(start, head, len(head), first, last, total) - start])


def value_of(bytes head not None, bytes name not None):
    """`stored_value` of `name: `, for the tests: (value or None, how many lines)."""
    cdef Py_ssize_t length = 0
    cdef int count = 0
    cdef bytes lower = name + b": "
    cdef const char *value = stored_value(head, len(head), lower, len(lower), &length, &count)
    return (None if value == NULL else value[:length]), count
