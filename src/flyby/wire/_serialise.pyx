# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Heads as bytes: measured and checked in one pass, written in a second (RFC 9112 3, 4, 5).

Every part is checked here, whoever made it: names are tokens, values and reasons hold no control bytes, a target
holds visible ASCII, so that no part can end its line. In a response's values, which are the origin's affair, control
bytes other than CR, LF and NUL pass (RFC 9110 5.5). `serialise` says the rest.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from flyby.wire._classes cimport CLASSES, TOKEN, VALUE
from flyby.wire._fields cimport Fields
from flyby.wire._put cimport put_text, text_of

cdef dict STATUS_LINES = {}  # the lines that were written before, by (status, reason)
cdef Py_ssize_t MOST_LINES = 1024


cdef bint _all(bytes text, unsigned char allowed) noexcept:
    cdef const unsigned char *byte = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    cdef Py_ssize_t index
    for index in range(size):
        if not CLASSES[byte[index]] & allowed:
            return False
    return True


cdef bint _is_value(bytes text, bint controls) noexcept:
    cdef const unsigned char *byte = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    cdef Py_ssize_t index
    for index in range(size):
        if CLASSES[byte[index]] & VALUE:
            continue
        if not controls or byte[index] == 0 or byte[index] == c"\r" or byte[index] == c"\n":
            return False
    return True


cdef bint _is_target(bytes text) noexcept:
    cdef const unsigned char *byte = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    cdef Py_ssize_t index
    for index in range(size):
        if not 0x21 <= byte[index] <= 0x7e:
            return False
    return size > 0


cdef bytes _write(bytes start, Fields fields, left_out, bytes more, bint end, bint controls):
    """`start`, the field lines but those whose key is in `left_out` (None for none), `more`, and the empty line."""
    cdef Py_ssize_t count = len(fields._keys)
    cdef Py_ssize_t total = PyBytes_GET_SIZE(start) + PyBytes_GET_SIZE(more) + (2 if end else 0)
    cdef Py_ssize_t index
    cdef bytes name
    cdef bytes value
    cdef bytes written
    cdef char *at
    for index in range(count):
        if left_out is not None and <bytes>fields._keys[index] in left_out:
            continue
        name = <bytes>fields._names[index]
        value = <bytes>fields._values[index]
        if PyBytes_GET_SIZE(name) == 0 or not _all(name, TOKEN) or not _is_value(value, controls):
            raise ValueError(f"a field cannot be written: {name!r}")
        total += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
    written = PyBytes_FromStringAndSize(NULL, total)
    at = put_text(PyBytes_AS_STRING(written), text_of(start))
    for index in range(count):
        if left_out is not None and <bytes>fields._keys[index] in left_out:
            continue
        at = put_text(at, text_of(<bytes>fields._names[index]))
        at[0] = c":"
        at[1] = c" "
        at = put_text(at + 2, text_of(<bytes>fields._values[index]))
        at[0] = c"\r"
        at[1] = c"\n"
        at += 2
    at = put_text(at, text_of(more))
    if end:
        at[0] = c"\r"
        at[1] = c"\n"
    return written


cdef bytes _status_line(int status, bytes reason):
    cdef tuple key = (status, reason)
    cdef object line = STATUS_LINES.get(key)
    if line is None:
        if not 100 <= status <= 599:
            raise ValueError(f"a status cannot be written: {status}")
        if not _all(reason, VALUE):
            raise ValueError(f"a reason phrase cannot be written: {reason!r}")
        line = b"HTTP/1.1 %d %b\r\n" % (status, reason)
        # Reasons are the origins' to choose: a few are kept, not all that there may be.
        if len(STATUS_LINES) < MOST_LINES and len(reason) < 64:
            STATUS_LINES[key] = line
    return <bytes>line


def field_lines(Fields fields not None):
    """The field lines, and the empty line."""
    return _write(b"", fields, None, b"", True, True)


cpdef bytes serialise_request(bytes method, bytes path, Fields fields):
    """A complete HTTP/1.1 request head."""
    if method is None or path is None or fields is None:
        raise TypeError("a request head is made of two bytes objects and Fields")
    if PyBytes_GET_SIZE(method) == 0 or not _all(method, TOKEN):
        raise ValueError(f"a method cannot be written: {method!r}")
    if not _is_target(path):
        raise ValueError(f"a request target cannot be written: {path!r}")
    return _write(method + b" " + path + b" HTTP/1.1\r\n", fields, None, b"", True, False)


def serialise_response(int status, bytes reason not None, Fields fields not None):
    """A complete HTTP/1.1 response head."""
    return _write(_status_line(status, reason), fields, None, b"", True, True)


cpdef bytes open_response(int status, bytes reason, Fields fields, left_out, bytes more):
    """A response head without its empty line: the fields but those in `left_out`, and `more`, which are lines made
    here.
    """
    if reason is None or fields is None or more is None:
        raise TypeError("a response head is made of a reason, Fields and lines")
    return _write(_status_line(status, reason), fields, left_out, more, False, True)
