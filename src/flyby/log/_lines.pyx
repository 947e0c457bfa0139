# cython: language_level=3
# cython: boundscheck=False, wraparound=False, cdivision=True
"""Access lines wait here until they are written; a hit's line is made here too, for it is made at every hit.

One buffer, filled at its end and emptied at its start. `hit` writes the console and the combined format straight into
it, byte for byte what `formats.py` makes of the same request (the tests compare them); every other line comes as bytes
by `add`. The rule of that file holds: wire bytes other than printable ASCII, quotes and backslashes are \\xHH.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memmove
from libc.time cimport gmtime_r, strftime, time_t, tm

cdef extern from "<string.h>" nogil:
    void *memrchr(const void *start, int byte, size_t length)

FLUSH_BYTES = 32 * 1024
MAX_WAITING = 1024 * 1024

cdef enum:
    FLUSH = 32 * 1024
    MOST = 1024 * 1024

cdef const char *HEX = "0123456789ABCDEF"


cdef inline char *put(char *to, const char *text, Py_ssize_t length) noexcept nogil:
    memcpy(to, text, length)
    return to + length


cdef inline char *put_escaped(char *to, Text text) noexcept nogil:
    cdef Py_ssize_t index
    cdef unsigned char byte
    for index in range(text.length):
        byte = text.start[index]
        if byte < 0x20 or byte > 0x7E or byte == 0x22 or byte == 0x5C:
            to[0] = c"\\"
            to[1] = c"x"
            to[2] = HEX[byte >> 4]
            to[3] = HEX[byte & 15]
            to += 4
        else:
            to[0] = <char>byte
            to += 1
    return to


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


cdef inline char *put_tenths(char *to, int64_t tenths) noexcept nogil:
    to = put_number(to, tenths // 10)
    to[0] = c"."
    to[1] = <char>(c"0" + tenths % 10)
    return to + 2


cdef inline char *put_size(char *to, int64_t count) noexcept nogil:
    if count < 1000:
        return put(put_number(to, count), " B", 2)
    if count < 1_000_000:
        return put(put_tenths(to, (count + 50) // 100), " kB", 3)
    return put(put_tenths(to, (count + 50_000) // 100_000), " MB", 3)


cdef inline int64_t tenths_of_ms(int64_t us) noexcept nogil:
    """Rounded, halves to the even one, as Python's `round`."""
    cdef int64_t tenths = us // 100
    cdef int64_t rest = us % 100
    return tenths + (rest > 50 or (rest == 50 and tenths % 2 == 1))


@cython.final
cdef class Lines:
    def __cinit__(self):
        self._due = FLUSH
        self._second = -1

    def __dealloc__(self):
        free(self._data)

    def __len__(self):
        return self._end - self._start

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._data + self._start, self._end - self._start, 1, flags)
        self._views += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self._views -= 1

    def use(self, str name):
        """Make the lines of hits in this format from now on."""
        self.style = {"off": OFF, "console": CONSOLE, "combined": COMBINED}.get(name, OTHERWISE)
        self._second = -1

    @property
    def due(self):
        """Whether so much is here that it is time to write."""
        return self._end - self._start >= self._due

    cdef bint urgent(self) noexcept:
        """Whether the log has to be told of the lines that were added."""
        return not self.awaited or self._end - self._start >= self._due

    def wait(self):
        """What is here could not be written: do not try again before as much again is here."""
        self._due = self._end - self._start + FLUSH

    def whole(self, Py_ssize_t most):
        """Bytes of the whole lines at the start, at most so many; of the first line, if it alone is longer."""
        cdef Py_ssize_t length = self._end - self._start
        cdef char *start = self._data + self._start
        cdef char *found
        if length <= most:
            return length
        found = <char *>memrchr(start, c"\n", most)
        if found == NULL:
            found = <char *>memchr(start, c"\n", length)
        return found + 1 - start

    def drop(self, Py_ssize_t length):
        """So many bytes were written."""
        self._start += length
        if self._start >= self._end:
            self._start = self._end = 0
            self._due = FLUSH

    def add(self, bytes line not None):
        """Take a line that is ready; one that finds no room is dropped and counted."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(line)
        if self._end - self._start + length > MOST:
            self.dropped += 1
            return
        memcpy(self.reserve(length), PyBytes_AS_STRING(line), length)
        self._end += length

    cdef char *reserve(self, Py_ssize_t length) except NULL:
        """Room for so many bytes behind what is here."""
        cdef Py_ssize_t room
        cdef char *data
        if self._views:
            raise BufferError("lines are being written")
        if self._end + length > self._room and self._start:
            memmove(self._data, self._data + self._start, self._end - self._start)
            self._end -= self._start
            self._start = 0
        if self._end + length > self._room:
            room = max(self._room * 2, self._end + length, 2 * FLUSH)
            data = <char *>realloc(self._data, room)
            if data == NULL:
                raise MemoryError
            self._data = data
            self._room = room
        return self._data + self._end

    cdef void stamp(self, int64_t time_ms) noexcept:
        """Format the second, unless the last line was of the same one."""
        cdef time_t second = <time_t>(time_ms // 1000)
        cdef tm parts
        if second == self._second:
            return
        self._second = second
        gmtime_r(&second, &parts)
        self._stamp_length = <int>strftime(
            self._stamp, sizeof(self._stamp),
            "%H:%M:%S " if self.style == CONSOLE else "%d/%b/%Y:%H:%M:%S +0000", &parts,
        )

    cdef int hit(self, const Served *served) except -1:
        """Make the line of a response that came fresh from the store."""
        cdef Text outcome
        cdef Text reason
        outcome.start = <const unsigned char *>" hit         "
        outcome.length = 13
        reason.length = 0
        return self.line(served, outcome, reason)

    cdef int line(self, const Served *served, Text outcome, Text reason) except -1:
        """Make the line of a response; `outcome` and `reason` are as the console shows them, padded and in brackets."""
        cdef char *start
        cdef char *to
        cdef Py_ssize_t room = 256 + outcome.length + reason.length + 4 * (
            served.host.length + served.path.length + served.user_agent.length + served.referer.length
        )
        if self._end - self._start + room > MOST:
            self.dropped += 1
            return 0
        start = to = self.reserve(room)
        self.stamp(served.time_ms)
        if self.style == CONSOLE:
            to = put(to, self._stamp, self._stamp_length)
            to = put_number(to, served.status)
            to = put(to, <const char *>outcome.start, outcome.length)
            to = put(to, <const char *>served.method.start, served.method.length)
            to = put(to, "     ", 5 - served.method.length if served.method.length < 4 else 1)
            to = put_escaped(put_escaped(to, served.host), served.path)
            to = put(put_tenths(put(to, "  ", 2), tenths_of_ms(served.duration_us)), " ms  ", 5)
            to = put_size(to, served.sent)
            to = put_escaped(put(to, "  ", 2), served.client)
            to = put(put(to, <const char *>reason.start, reason.length), "\n", 1)
        else:
            to = put_escaped(to, served.client) if served.client.length else put(to, "-", 1)
            to = put(put(put(to, " - - [", 6), self._stamp, self._stamp_length), b'] "', 3)
            to = put(to, <const char *>served.method.start, served.method.length)
            to = put_escaped(put(to, " ", 1), served.path)
            to = put(put_number(put(to, b' HTTP/1.1" ', 11), served.status), " ", 1)
            to = put(put_number(to, served.sent), b' "', 2)
            to = put_escaped(to, served.referer) if served.referer.length else put(to, "-", 1)
            to = put(to, b'" "', 3)
            to = put_escaped(to, served.user_agent) if served.user_agent.length else put(to, "-", 1)
            to = put(to, b'"\n', 2)
        self._end += to - start
        return 0

    def hit_line(
        self, int64_t time_ms, bytes method, bytes host, bytes path, int status, int64_t sent, int64_t duration_us,
        bytes client, bytes user_agent, bytes referer, str outcome="", str reason="",
    ):
        """`hit`, or `line` with an outcome and a reason; for the tests."""
        cdef Served served
        served.time_ms, served.duration_us, served.sent, served.status = time_ms, duration_us, sent, status
        served.method = text_of(method)
        served.host = text_of(host)
        served.path = text_of(path)
        served.client = text_of(client)
        served.user_agent = text_of(user_agent)
        served.referer = text_of(referer)
        if outcome:
            column, tail = console_words(outcome, reason)
            self.line(&served, text_of(column), text_of(tail))
        else:
            self.hit(&served)


def console_words(str outcome, str reason):
    """What the console's line says of them, as `line` wants it."""
    return f" {outcome:<11} ".encode(), f" ({reason})".encode() if reason else b""


cdef Text text_of(bytes value):
    cdef Text text
    text.start = <const unsigned char *>PyBytes_AS_STRING(value)
    text.length = PyBytes_GET_SIZE(value)
    return text
