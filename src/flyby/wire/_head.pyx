# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Heads of requests and responses, and the reader that makes them (RFC 9112 2 to 4).

One pass over the bytes, in this order:

    LEADING (empty lines, requests) -> METHOD SP TARGET SP VERSION | VERSION SP STATUS SP REASON
        -> START_FEED -> SECTION (field lines, `_scan`) -> complete -> take_request / take_response -> LEADING

A head that arrives whole is read where it lies; one that arrives in pieces is gathered, and no byte is scanned twice.
The reader never takes a byte behind the head's empty line.

What makes a message ambiguous is refused, not mended: see `_scan` for lines, `_framing` for Content-Length and
Transfer-Encoding, `_target` for Host and request target. The scanner accepts a strict subset of HTTP/1.1, and a little
more where nothing is ambiguous (`agreement` has the list). A head that announces content, an upgrade or another method
than GET and HEAD, and every response, must be accepted by httptools (llhttp) as well and be read by it in the same way,
so that a fault in one of the two parsers is not enough.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy

from flyby.errors import WireError
from flyby.wire._classes cimport CLASSES, DIGIT, PATH, QUERY, TOKEN, VALUE
from flyby.wire._fields cimport Fields
from flyby.wire._scan cimport DONE, FieldSection
from flyby.wire._target cimport authority, resolve
from flyby.wire.agreement import agree_request, agree_response, tidied
from flyby.wire.framing import BodyKind, connection_close, request_framing, response_framing, upgrade_of

cdef int LEADING_LINES = 4  # empty lines before a request; RFC 9112 2.2 asks for at least one
cdef const char *NAME_OF_HTTP = "HTTP/"

cdef object NONE = BodyKind.NONE
cdef object LENGTH = BodyKind.LENGTH
cdef object CLOSE = BodyKind.CLOSE


@cython.final
cdef class RequestHead:
    def __init__(
        self, bytes method, bytes target, int version, Fields fields, *, bytes scheme, bytes host, bytes path,
        body=NONE, length=-1, bint keep_alive=True, bint expect_continue=False, bytes upgrade=None,
    ):
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.scheme = scheme
        self.host = host
        self.path = path
        self.body = body
        self.length = length
        self.keep_alive = keep_alive
        self.expect_continue = expect_continue
        self.upgrade = upgrade

    def __repr__(self):
        return f"<RequestHead {self.method!r} {self.host!r} {self.path!r} {self.body.name}>"


@cython.final
cdef class ResponseHead:
    def __init__(self, int status, bytes reason, int version, Fields fields, *, bint keep_alive=True):
        self.status = status
        self.reason = reason
        self.version = version
        self.fields = fields
        self.keep_alive = keep_alive
        self._kind, self._length = response_framing(version, fields)

    def framing(self, bytes method):
        """(kind, length) of the content behind this head in an answer to `method` (RFC 9112 6.3)."""
        # Rule 1: these have no content, whatever their fields announce.
        if self.status < 200 or self.status == 204 or self.status == 304 or method == b"HEAD":
            return NONE, -1
        return self._kind, self._length

    def __repr__(self):
        return f"<ResponseHead {self.status} {self._kind.name}>"


@cython.final
cdef class HeadReader:
    def __init__(self, limits, side):
        self._section = FieldSection(limits, side)
        self._requests = side == "request"
        self._fault = 400 if self._requests else 502
        self._version_fault = 505 if self._requests else 502
        self._line_stop = (limits.request_line if self._requests else limits.response_line) + 2
        self._held = bytearray()
        self._reset()

    cdef void _reset(self):
        self.complete = False
        self._state = LEADING if self._requests else VERSION
        self._section.begin(0)
        if PyByteArray_GET_SIZE(self._held):
            self._held = bytearray()
        self._empty_lines = 0
        self._query = False
        self._method_end = 0
        # So that a version begins one byte behind it: at offset 0 of a response.
        self._target_end = -1
        self._status = 0
        self._upgrade = None
        self._host = None

    @property
    def empty(self):
        """No byte of a next head was seen; empty lines before a request do not count."""
        return self._state == LEADING or self._state == LEADING_FEED or (
            self._state == VERSION and not self._requests and not PyByteArray_GET_SIZE(self._held)
        )

    def feed(self, data):
        """Read bytes of the next head; return how many belonged to it. Call `take_*` when `complete`."""
        cdef Py_buffer view
        cdef Py_ssize_t taken
        if self.complete:
            return 0
        if self._broken:
            raise ValueError("a reader is of no use after a fault")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._broken = True
            taken = self._feed(<const unsigned char *>view.buf, view.len)
            self._broken = False
            return taken
        finally:
            PyBuffer_Release(&view)

    cdef Py_ssize_t _feed(self, const unsigned char *data, Py_ssize_t length) except -1:
        cdef Py_ssize_t skipped = 0
        cdef Py_ssize_t held
        cdef Py_ssize_t taken
        cdef Py_ssize_t position
        cdef const unsigned char *base
        if self._state == LEADING or self._state == LEADING_FEED:
            skipped = self._skip(data, length)
            data += skipped
            length -= skipped
        if length == 0:
            return skipped
        held = PyByteArray_GET_SIZE(self._held)
        if held == 0:
            position = self._scan(data, 0, length)
            if self._section.state == DONE:
                self._finish(data, position)
                return skipped + position
            taken = length
        else:
            # One byte more than a head may have is enough for the scanner to refuse it.
            taken = min(length, self._line_stop + self._section.block_limit + 1 - held)
        PyByteArray_Resize(self._held, held + taken)
        base = <const unsigned char *>PyByteArray_AS_STRING(self._held)
        memcpy(<void *>(base + held), data, taken)
        if held == 0:
            return skipped + taken
        position = self._scan(base, held, held + taken)
        if self._section.state == DONE:
            self._finish(base, position)
            return skipped + position - held
        return skipped + taken

    cdef Py_ssize_t _skip(self, const unsigned char *data, Py_ssize_t length) except -1:
        cdef Py_ssize_t position = 0
        while position < length:
            if self._state == LEADING_FEED:
                if data[position] != c"\n":
                    raise WireError(400, "bare-cr", "a carriage return without a line feed")
                self._state = LEADING
            elif data[position] != c"\r":
                self._state = METHOD
                break
            elif self._empty_lines == LEADING_LINES:
                raise WireError(400, "empty-lines", "too many empty lines before the request")
            else:
                self._empty_lines += 1
                self._state = LEADING_FEED
            position += 1
        return position

    cdef Py_ssize_t _scan(self, const unsigned char *base, Py_ssize_t position, Py_ssize_t end) except -1:
        if self._state != SECTION:
            if self._requests:
                position = self._request_line(base, position, end)
            else:
                position = self._status_line(base, position, end)
            if self._state != SECTION:
                return position
        return self._section.scan(base, position, end)

    cdef int _version_byte(self, unsigned char byte, Py_ssize_t index) except -1:
        """Check one byte of `HTTP/1.1`."""
        cdef bint good
        if index < 5:
            good = byte == <unsigned char>NAME_OF_HTTP[index]
        elif index == 6:
            good = byte == c"."
        elif index == 5 or index == 7:
            good = CLASSES[byte] & DIGIT
        else:
            good = False
        if not good:
            raise WireError(self._fault, "version", "the start line holds no HTTP version where one belongs")
        return 0

    cdef Py_ssize_t _request_line(self, const unsigned char *base, Py_ssize_t position, Py_ssize_t end) except -1:
        cdef Py_ssize_t stop = min(end, self._line_stop)
        cdef Py_ssize_t start
        cdef unsigned char byte
        while position < stop:
            byte = base[position]
            if self._state == TARGET:
                while position < stop and CLASSES[base[position]] & (QUERY if self._query else PATH):
                    position += 1
                if position == stop:
                    break
                byte = base[position]
                if byte == c"?":
                    self._query = True
                elif byte == c" " and position > self._method_end + 1:
                    self._target_end = position
                    self._state = VERSION
                else:
                    raise WireError(400, "target", "the request target is empty or holds a byte that no URI may hold")
            elif self._state == METHOD:
                while position < stop and CLASSES[base[position]] & TOKEN:
                    position += 1
                if position == stop:
                    break
                if base[position] != c" " or position == 0:
                    raise WireError(400, "method", "the method is not a token followed by one space")
                self._method_end = position
                self._state = TARGET
            elif self._state == VERSION:
                start = self._target_end + 1
                if position < start + 8:
                    self._version_byte(byte, position - start)
                elif byte != c"\r":
                    raise WireError(400, "version", "the request line does not end behind the version")
                else:
                    self._line_end = position
                    self._state = START_FEED
            elif byte != c"\n":
                raise WireError(400, "bare-cr", "a carriage return without a line feed")
            else:
                start = self._target_end + 1
                if base[start + 5] != c"1" or base[start + 7] > c"1":
                    raise WireError(505, "version", "only HTTP/1.0 and HTTP/1.1 are spoken here")
                self._version = 10 + base[start + 7] - c"0"
                self._state = SECTION
                self._section.move(position + 1)
                return position + 1
            position += 1
        if position >= self._line_stop:
            if self._state == METHOD:
                raise WireError(400, "method", "the method is too long")
            raise WireError(414, "target-too-long", "the request line exceeds the limit")
        return position

    cdef Py_ssize_t _status_line(self, const unsigned char *base, Py_ssize_t position, Py_ssize_t end) except -1:
        cdef Py_ssize_t stop = min(end, self._line_stop)
        cdef unsigned char byte
        while position < stop:
            byte = base[position]
            if self._state == REASON:
                if byte == c"\r":
                    self._line_end = position
                    self._state = START_FEED
                elif not CLASSES[byte] & VALUE:
                    raise WireError(502, "reason", "the reason phrase holds a control byte or a bare line end")
            elif self._state == VERSION:
                if position < 8:
                    self._version_byte(byte, position)
                elif byte != c" ":
                    raise WireError(502, "version", "no space behind the version")
                elif base[5] != c"1" or base[7] > c"1":
                    raise WireError(502, "version", "the response is neither HTTP/1.0 nor HTTP/1.1")
                else:
                    self._version = 10 + base[7] - c"0"
                    self._state = STATUS
            elif self._state == STATUS:
                if position < 12:
                    if not CLASSES[byte] & DIGIT:
                        raise WireError(502, "status", "the status is not three digits")
                    self._status = self._status * 10 + byte - c"0"
                elif byte != c" " and byte != c"\r":
                    raise WireError(502, "status", "the status is not three digits followed by one space")
                elif not 100 <= self._status <= 599:
                    raise WireError(502, "status", "the status is out of range")
                elif byte == c" ":
                    self._state = REASON
                else:
                    # RFC 9112 4: the space is the sender's duty. Without it and a reason nothing is ambiguous.
                    self._line_end = position
                    self._state = START_FEED
            elif byte != c"\n":
                raise WireError(502, "bare-cr", "a carriage return without a line feed")
            else:
                self._state = SECTION
                self._section.move(position + 1)
                return position + 1
            position += 1
        if position >= self._line_stop:
            raise WireError(502, "status-line-too-long", "the status line exceeds the limit")
        return position

    cdef int _finish(self, const unsigned char *base, Py_ssize_t length) except -1:
        """The head is whole: read what its fields say about the message, and ask for the second opinion."""
        cdef Fields fields = self._section.fields
        cdef Py_ssize_t index
        cdef Py_ssize_t size
        cdef int hosts = 0
        cdef bint plain = True
        cdef bint connection = False
        cdef bint tidy = self._section.corrected
        cdef bint safe
        cdef int lengths = 0
        cdef bytes key
        for index in range(len(fields._keys)):
            key = <bytes>fields._keys[index]
            size = len(key)
            if size == 4:
                if key == b"host":
                    hosts += 1
                    self._host = <bytes>fields._values[index]
            elif size == 10:
                if key == b"connection":
                    connection = True
            elif size == 6:
                if key == b"expect":
                    plain = False
            elif size == 7:
                if key == b"upgrade":
                    plain = False
            elif size == 14:
                if key == b"content-length":
                    plain = False
                    lengths += 1
                    # llhttp takes neither repetitions nor lists, of which a response may have either.
                    if lengths > 1 or b"," in <bytes>fields._values[index]:
                        tidy = True
            elif size == 17:
                if key == b"transfer-encoding":
                    plain = False
                    tidy = True  # nor the legal tabs around a coding
        self._keep_alive = self._version == 11
        self._expect = False
        if connection:
            self._keep_alive = not connection_close(self._version, fields, self._requests)
        if not self._requests:
            self._reason = PyBytes_FromStringAndSize(<const char *>base + 13, max(0, self._line_end - 13))
            self._kind, self._length = CLOSE, -1
            if lengths == 1 and not tidy and self._plain_length():
                self._kind = LENGTH
            elif not plain:
                self._kind, self._length = response_framing(self._version, fields)
            agree_response(self._whole(base, length, tidy), self._status)
            self.complete = True
            return 0
        if hosts > 1 or (hosts == 0 and self._version > 10):
            # RFC 9112 3.2. HTTP/1.0 knows no Host.
            raise WireError(400, "host", "a request needs exactly one Host field")
        self._method = PyBytes_FromStringAndSize(<const char *>base, self._method_end)
        self._target = PyBytes_FromStringAndSize(
            <const char *>base + self._method_end + 1, self._target_end - self._method_end - 1
        )
        self._kind, self._length = NONE, -1
        if not plain:
            self._kind, self._length, self._expect = request_framing(self._version, fields)
            self._upgrade = upgrade_of(self._version, self._method, fields, self._kind, self._length)
        safe = self._method == b"GET" or self._method == b"HEAD"
        if not plain or not safe:
            agree_request(self._whole(base, length, tidy), self._method, self._version)
        if safe and self._kind is LENGTH and self._length == 0:
            # Java's HttpClient says so of every GET. It is a request without content (RFC 9110 8.6), and some
            # origins refuse the field: it is not sent on.
            self._kind, self._length = NONE, -1
            fields.remove(b"content-length")
        self.complete = True
        return 0

    cdef bint _plain_length(self) except -1:
        """Read the one Content-Length, without a Transfer-Encoding beside it, if it is 1 to 18 digits."""
        cdef bytes value = self._section.fields.get(b"content-length")
        cdef const unsigned char *digit = value
        cdef Py_ssize_t size = len(value)
        cdef Py_ssize_t index
        cdef long long length = 0
        if not 1 <= size <= 18:
            return False
        for index in range(size):
            if not CLASSES[digit[index]] & DIGIT:
                return False
            length = length * 10 + digit[index] - c"0"
        self._length = length
        return True

    cdef bytes _whole(self, const unsigned char *base, Py_ssize_t length, bint tidy):
        """The head as one object: as it came, or `tidied`."""
        if not tidy:
            return PyBytes_FromStringAndSize(<const char *>base, length)
        return tidied(PyBytes_FromStringAndSize(<const char *>base, self._line_end + 2), self._section.fields)

    def take_request(self, bytes scheme):
        """The complete request head; the reader is then ready for the next one."""
        cdef RequestHead head
        if not self.complete:
            raise ValueError("no complete head to take")
        if not self._host and self._version == 10:
            host = b""  # and no site is meant, unless the target names one
        else:
            host = authority(self._host, scheme)
        path, named = resolve(self._method, self._target, scheme)
        if named is not None:
            # RFC 9112 3.2.2: the target's authority counts, and takes the place of the received Host.
            host = named
            self._section.fields.set(b"Host", host)
        head = RequestHead.__new__(RequestHead)
        head.method = self._method
        head.target = self._target
        head.version = self._version
        head.fields = self._section.fields
        head.scheme = scheme
        head.host = host
        head.path = path
        head.body = self._kind
        head.length = self._length
        head.keep_alive = self._keep_alive
        head.expect_continue = self._expect
        head.upgrade = self._upgrade
        self._reset()
        return head

    def take_response(self):
        """The complete response head; the reader is then ready for the next one."""
        cdef ResponseHead head
        if not self.complete:
            raise ValueError("no complete head to take")
        head = ResponseHead.__new__(ResponseHead)
        head.status = self._status
        head.reason = self._reason
        head.version = self._version
        head.fields = self._section.fields
        head.keep_alive = self._keep_alive
        head._kind = self._kind
        head._length = self._length
        self._reset()
        return head
