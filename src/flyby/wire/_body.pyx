# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The content of one message, told from what follows it (RFC 9112 6 and 7.1).

`BodyReader` hands out the content as slices of the caller's buffer, never a copy, and says how far it read, which is
never behind the message's end. Chunked content is a table of states, one byte a step:

    SIZE [GAP] { EXT_... } SIZE_FEED -> DATA -> DATA_CR DATA_FEED -> SIZE ... -> 0: TRAILERS -> FINISHED

Line ends are CRLF and nothing else, a size has 1 to 16 hexadecimal digits and fits 63 bits, an extension follows the
grammar (and is then dropped): whatever is looser here is where two servers part (RFC 9112 7.1, errata 7633). A line and
the extensions of a whole message are limited; trailers are field lines under the same rules and limits as a head.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from libc.string cimport memcpy

from flyby.errors import WireError
from flyby.wire._classes cimport CLASSES, HEX, QUOTED, TOKEN, VALUE
from flyby.wire._fields cimport Fields
from flyby.wire._scan cimport DONE, FieldSection, imitates_framing

cdef int KIND_NONE = 0
cdef int KIND_LENGTH = 1
cdef int KIND_CHUNKED = 2
cdef int KIND_CLOSE = 3

cdef int MOST_DIGITS = 16
cdef long long LARGEST = 0x7FFFFFFFFFFFFFFF

# What a trailer must not say, for a recipient that merges it would frame or route the message anew: the field is
# dropped, the content stays (RFC 9110 6.5.1).
cdef tuple NEVER_TRAILERS = (b"transfer-encoding", b"content-length", b"host")


@cython.final
cdef class BodyReader:
    def __init__(self, kind, length, limits, side="request"):
        cdef int number = kind
        self._fault = 400 if side == "request" else 502
        self._limits = limits
        self._side = side
        self._line_limit = limits.chunk_line
        self._extension_limit = limits.chunk_extensions
        self._held = bytearray()
        if number == KIND_NONE:
            self._state = FINISHED
        elif number == KIND_LENGTH:
            if length < 0:
                raise ValueError("content of kind LENGTH needs a length")
            self._remaining = length
            self._state = DATA if length else FINISHED
        elif number == KIND_CHUNKED:
            self._chunked = True
            self._state = SIZE
        elif number == KIND_CLOSE:
            self._state = UNTIL_CLOSE
        else:
            raise ValueError(f"no such kind of content: {kind!r}")

    @property
    def done(self):
        return self._state == FINISHED

    cdef object _malformed(self, str detail):
        return WireError(self._fault, "chunk", detail)

    def feed(self, data):
        """Read bytes; return (slices of the content, how many bytes belonged to the message)."""
        cdef Py_buffer view
        cdef list slices = []
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t end
        cdef Py_ssize_t size
        cdef const unsigned char *base
        cdef object whole = data if isinstance(data, memoryview) else memoryview(data)
        if self._broken:
            raise ValueError("a reader is of no use after a fault")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._broken = True
            base = <const unsigned char *>view.buf
            end = view.len
            while position < end and self._state != FINISHED:
                if self._state == DATA:
                    size = end - position
                    if size > self._remaining:
                        size = <Py_ssize_t>self._remaining
                    slices.append(whole if size == end else whole[position:position + size])
                    position += size
                    self.received += size
                    self._remaining -= size
                    if self._remaining == 0:
                        self._state = DATA_CR if self._chunked else FINISHED
                elif self._state == UNTIL_CLOSE:
                    slices.append(whole)
                    self.received += end
                    position = end
                elif self._state == TRAILERS:
                    position = self._trailer(base, position, end)
                else:
                    position = self._chunk_line(base, position, end)
            self._broken = False
        finally:
            PyBuffer_Release(&view)
        return slices, position

    cdef Py_ssize_t _chunk_line(self, const unsigned char *data, Py_ssize_t position, Py_ssize_t end) except -1:
        """Step through what stands between two chunks' data."""
        cdef unsigned char byte
        cdef BodyState state = self._state
        cdef int digit
        while position < end:
            byte = data[position]
            position += 1
            if state == DATA_CR:
                if byte != c"\r":
                    raise self._malformed("chunk data is longer than its size")
                state = DATA_FEED
                continue
            if state == DATA_FEED:
                if byte != c"\n":
                    raise self._malformed("chunk data does not end with CRLF")
                state = SIZE
                continue
            if state == SIZE_FEED:
                if byte != c"\n":
                    raise self._malformed("a chunk's line ends without a line feed")
                self._digits = 0
                self._line = 0
                self._state = DATA if self._remaining else TRAILERS
                return position
            if byte == c"\r" and (
                (state == SIZE and self._digits)
                or state == EXT_NAME or state == EXT_VALUE or state == EXT_QUOTED_END
            ):
                state = SIZE_FEED
                continue
            self._line += 1
            if self._line > self._line_limit:
                raise self._malformed("a chunk's line exceeds the limit")
            if state == SIZE:
                if CLASSES[byte] & HEX:
                    digit = byte - c"0" if byte <= c"9" else (byte | 0x20) - c"a" + 10
                    # The guard comes before the multiplication: a size that wraps round would be a short one.
                    if self._digits == MOST_DIGITS or self._remaining > (LARGEST - digit) >> 4:
                        raise self._malformed("the chunk size is too large")
                    self._remaining = self._remaining * 16 + digit
                    self._digits += 1
                    continue
                if self._digits == 0:
                    raise self._malformed("the chunk size is not a hexadecimal number")
            self._extensions += 1
            if self._extensions > self._extension_limit:
                raise self._malformed("the chunk extensions of the message exceed the limit")
            if state == EXT_QUOTED:
                if byte == c'"':
                    state = EXT_QUOTED_END
                elif byte == c"\\":
                    state = EXT_ESCAPED
                elif not CLASSES[byte] & QUOTED:
                    raise self._malformed("a chunk extension holds a control byte")
            elif state == EXT_ESCAPED:
                if not CLASSES[byte] & VALUE:
                    raise self._malformed("a chunk extension holds a control byte")
                state = EXT_QUOTED
            elif CLASSES[byte] & TOKEN and (state == EXT_START or state == EXT_NAME):
                state = EXT_NAME
            elif CLASSES[byte] & TOKEN and (state == EXT_VALUE_START or state == EXT_VALUE):
                state = EXT_VALUE
            elif byte == c" " or byte == c"\t":
                # Bad white space is legal before ";" and "=", and behind them (RFC 9110 5.6.3).
                if state == SIZE:
                    state = GAP
                elif state == EXT_NAME:
                    state = EXT_NAME_GAP
                elif state == EXT_VALUE or state == EXT_QUOTED_END:
                    state = EXT_VALUE_GAP
            elif byte == c";" and state != EXT_START and state != EXT_VALUE_START:
                state = EXT_START
            elif byte == c"=" and (state == EXT_NAME or state == EXT_NAME_GAP):
                state = EXT_VALUE_START
            elif byte == c'"' and state == EXT_VALUE_START:
                state = EXT_QUOTED
            else:
                raise self._malformed("a chunk's line is neither a size nor a size with extensions")
        self._state = state
        return position

    cdef Py_ssize_t _trailer(self, const unsigned char *data, Py_ssize_t position, Py_ssize_t end) except -1:
        cdef Py_ssize_t held = PyByteArray_GET_SIZE(self._held)
        cdef Py_ssize_t taken = end - position
        cdef Py_ssize_t stopped
        cdef const unsigned char *base
        if self._section is None:
            self._section = FieldSection(self._limits, self._side, trailers=True)
        if held == 0:
            stopped = self._section.scan(data + position, 0, taken)
            if self._section.state == DONE:
                self._end()
                return position + stopped
        else:
            # One byte more than a section may have is enough for the scanner to refuse it.
            taken = min(taken, self._section.block_limit + 1 - held)
        PyByteArray_Resize(self._held, held + taken)
        base = <const unsigned char *>PyByteArray_AS_STRING(self._held)
        memcpy(<void *>(base + held), data + position, taken)
        if held:
            stopped = self._section.scan(base, held, held + taken)
            if self._section.state == DONE:
                self._end()
                return position + stopped - held
        return position + taken

    cdef int _end(self) except -1:
        cdef Fields fields = self._section.fields
        fields = fields.without(NEVER_TRAILERS)
        for key in list(fields._keys):
            if imitates_framing(key):
                fields.remove(key)
        if len(fields):
            self.trailers = fields
        self._state = FINISHED
        return 0

    def eof(self):
        """The peer has sent its last byte."""
        if self._state == UNTIL_CLOSE:
            self._state = FINISHED
        elif self._state != FINISHED:
            raise WireError(self._fault, "content-incomplete", "the connection ended before the content was complete")

    def __repr__(self):
        return f"<BodyReader received={self.received} done={self.done}>"
