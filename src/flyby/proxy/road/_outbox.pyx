# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Bytes on their way to a client: one gathered write when nothing is queued, the rest through the transport.

Three ways in: `write` for what is arriving (what the socket does not take is copied), `queue` and `pump` for what
lies ready in memory that stays (handed over piece by piece, so that a slow client costs no copy of the whole), and
`hold` for a head that should leave with the first part of its content. `gather` is the first step of all of them, and
all that a hit of the fast lane takes: one sendmsg(2) on the socket itself, behind the back of a transport that has
nothing to write.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memset

from flyby.wire._put cimport put

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t c_send "send"(int fd, const void *data, size_t length, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL

PIECE = 65_536  # bytes of stored content that are copied for the transport at a time

cdef enum:
    VECTOR = 16  # buffers of one write
    PIECE_AT_ONCE = 65_536  # bytes that the kernel is given in one call


@cython.final
cdef class Pieces:
    """Stored content that is unpacked while it is sent: `source.read(offset, most)` from `offset` to `end`."""

    def __init__(self, source, Py_ssize_t offset, Py_ssize_t end):
        self._source = source
        self._offset = offset
        self._end = end

    def __len__(self):
        return self._end - self._offset

    def __iter__(self):
        return self

    def __next__(self):
        piece = self.take()
        if piece is None:
            raise StopIteration
        return piece

    cdef object take(self):
        """The next piece; None when there is no more."""
        if self._offset >= self._end:
            return None
        piece = self._source.read(self._offset, min(<Py_ssize_t>PIECE_AT_ONCE, self._end - self._offset))
        self._offset += len(piece)
        return piece


@cython.final
cdef class Outbox:
    """The outgoing side of one connection; `sent` counts the bytes that were handed over."""

    def __init__(self, transport):
        self._transport = transport
        self._fd = -1
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("sslcontext") is None:
            self._fd = sock.fileno()  # the loop has set TCP_NODELAY, as asyncio does and uvloop, too

    cpdef hold(self, bytes head):
        """Keep `head` for the next `write` or `release`, which comes in the same call."""
        self._held = head

    cpdef release(self):
        """Send a head that is held."""
        if self._held is not None and not self._transport.is_closing():
            self.write([])

    cpdef write(self, list chunks):
        """Send `chunks`; they are only read during the call."""
        cdef Py_ssize_t total = 0
        cdef int64_t done
        if self._held is not None:
            chunks.insert(0, self._held)
            self._held = None
        for chunk in chunks:
            total += len(chunk)
        self.sent += total
        done = self._direct(chunks)
        if done < total:
            self._queued = True
            self._transport.write(b"".join(chunks)[done:])

    cpdef bint retract(self):
        """Take back a head that is held; False when none is."""
        if self._held is None:
            return False
        self._held = None
        return True

    def queue(self, chunks):
        """Add what `pump` will send; the memory must stay until then."""
        if self._ready is None:
            self._ready = []
        self._ready.extend(chunks)

    cpdef clear(self):
        """Drop what was not sent."""
        self._held = None
        self._ready = None

    @property
    def ready(self):
        """Whether queued bytes wait for `pump`."""
        return self._ready is not None

    def pump(self, Py_ssize_t high):
        """Send what is queued until the transport holds `high` bytes; True when all of it is handed over."""
        cdef list ready = self._ready
        cdef int64_t done
        while ready and not self._transport.is_closing() and self._transport.get_write_buffer_size() < high:
            unpack_next(ready)
            if not ready:
                break
            done = self._direct(ready)
            self.sent += done
            while ready and done >= len(ready[0]):
                done -= len(ready[0])
                del ready[0]
            if not ready:
                break
            if type(ready[0]) is Pieces:
                continue
            rest = memoryview(ready[0])[done:]
            piece = rest[:PIECE]
            self._queued = True
            self._transport.write(bytes(piece))
            self.sent += len(piece)
            if len(piece) == len(rest):
                del ready[0]
            else:
                ready[0] = rest[PIECE:]
        if ready:
            return False
        self._ready = None
        return True

    cdef int64_t taken(self) except -1:
        """How much of this response the socket has taken, in bytes."""
        return self.sent - <int64_t>self._transport.get_write_buffer_size()

    cdef bint clear_way(self) except -1:
        """Whether nothing waits before what would be sent now."""
        if self._held is not None or self._ready is not None:
            return False
        if self._queued:
            if self._transport.get_write_buffer_size():
                return False
            self._queued = False
        return True

    cdef int64_t _direct(self, list chunks) except -2:
        """Send what the socket takes of the first chunks, if nothing is before them."""
        cdef Py_buffer views[VECTOR]
        cdef iovec parts[VECTOR]
        cdef int count = 0
        cdef int at
        cdef size_t total = 0
        if self._fd < 0 or self._transport.is_closing():
            return 0
        if self._queued:
            if self._transport.get_write_buffer_size():
                return 0
            self._queued = False
        try:
            while count < VECTOR and count < len(chunks) and type(chunks[count]) is not Pieces:
                PyObject_GetBuffer(chunks[count], &views[count], PyBUF_SIMPLE)
                parts[count].iov_base = views[count].buf
                parts[count].iov_len = views[count].len
                total += views[count].len
                count += 1
            return max(self.gather(parts, count, total), 0)
        finally:
            for at in range(count):
                PyBuffer_Release(&views[at])

    cdef int send_parts(self, iovec *parts, int count, size_t total) except -1:
        """Send bytes that are only read during the call: to the socket, or behind what waits for it."""
        cdef int64_t done = 0
        self.sent += total
        if self._fd >= 0 and self.clear_way():
            done = self.gather(parts, count, total)
            if done == <int64_t>total or done < 0:
                return 0
        self._queued = True
        self._transport.write(joined(parts, count, done))
        return 0

    cdef int64_t gather(self, iovec *parts, int count, size_t total) except -2:
        """Bytes that the socket takes at once; -1 when it is broken, and then the transport is aborted.

        A large write is given to the kernel in pieces: for 128 KiB that costs half of what one call does.
        """
        cdef int64_t done = 0
        cdef ssize_t sent = 0
        cdef size_t length
        cdef size_t cut
        cdef size_t moved = 0  # bytes of the first part that were given before
        cdef int number
        while total:
            length = 0
            number = 0
            while number < count and length + parts[number].iov_len <= PIECE_AT_ONCE:
                length += parts[number].iov_len
                number += 1
            cut = 0
            if number < count:
                cut = PIECE_AT_ONCE - length
                length = PIECE_AT_ONCE
            sent = give(self._fd, parts, number, cut)
            if sent < 0:
                break
            done += sent
            total -= sent
            if <size_t>sent < length:
                break
            if number:
                move(parts, -<Py_ssize_t>moved)
                moved = 0
                parts += number
                count -= number
            move(parts, cut)
            moved += cut
        move(parts, -<Py_ssize_t>moved)
        if sent >= 0 or errno == EAGAIN or errno == EINTR:
            return done
        self._transport.abort()
        return -1


cdef bytes joined(iovec *parts, int count, size_t skipped):
    """The bytes of the parts, from number `skipped` on."""
    cdef size_t total = 0
    cdef bytes text
    cdef char *to
    cdef int number
    for number in range(count):
        total += parts[number].iov_len
    text = PyBytes_FromStringAndSize(NULL, total - skipped)
    to = PyBytes_AS_STRING(text)
    for number in range(count):
        if skipped < parts[number].iov_len:
            to = put(to, <const char *>parts[number].iov_base + skipped, parts[number].iov_len - skipped)
            skipped = 0
        else:
            skipped -= parts[number].iov_len
    return text


cdef object next_round(list chunks):
    """Take from the views what is encrypted next; a short one makes a whole record with the beginning of the next."""
    chunk = chunks[0]
    cdef Py_ssize_t length = len(chunk)
    if length < RECORD and len(chunks) > 1:
        del chunks[0]
        more = chunks[0][: RECORD - length]
        if len(more) == len(chunks[0]):
            del chunks[0]
        else:
            chunks[0] = chunks[0][RECORD - length :]
        return b"".join((chunk, more))
    if length > ROUND:
        chunks[0] = chunk[ROUND:]
        return chunk[:ROUND]
    del chunks[0]
    return chunk


cdef int unpack_next(list ready) except -1:
    """Let the next piece of packed content take its place, if that is the first of `ready` or comes behind a head."""
    cdef int at
    for at in range(min(2, len(ready))):
        if type(ready[at]) is Pieces:
            piece = (<Pieces>ready[at]).take()
            if piece is None:
                del ready[at]
            else:
                ready.insert(at, piece)
            return 0
    return 0


cdef inline void move(iovec *part, Py_ssize_t by) noexcept nogil:
    if by:
        part.iov_base = <char *>part.iov_base + by
        part.iov_len -= by


cdef inline ssize_t give(int fd, iovec *parts, int count, size_t cut) noexcept nogil:
    """Write `count` parts, and the first `cut` bytes of the one behind them."""
    cdef msghdr message
    cdef size_t whole
    cdef ssize_t sent
    if count + (cut > 0) == 1:
        return c_send(fd, parts[0].iov_base, cut or parts[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL)
    memset(&message, 0, sizeof(message))
    message.msg_iov = parts
    message.msg_iovlen = count + (cut > 0)
    if not cut:
        return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
    whole = parts[count].iov_len
    parts[count].iov_len = cut
    sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
    parts[count].iov_len = whole
    return sent
