# cython: language_level=3
"""The request's side of an upstream connection: bytes to the socket at once, or behind what its transport still holds;
when the request is wholly sent; and which time limit counts.

A request of one piece is one send(2) on a plain TCP socket; a transport would keep it to the end of the loop's round.
What the socket does not take, and all that goes over TLS, is the transport's; until that has left, everything else
queues up behind it.

A write that fails says nothing of what was received before: an origin that answers an upload early and closes leaves
its answer in the receive buffer, behind a reset. A transport would close on the failed write without reading it. So
the transport does not learn of a fault that send(2) meets here: nothing is sent any more, and the reading side finds
the answer and then the end. A fault that the transport meets itself closes it; `receive` reads what is left.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, ENOMEM, EPIPE, errno

from flyby.errors import Retry
from flyby.upstream import faults

from flyby.upstream._deadline cimport Deadline
from flyby.upstream._exchange cimport UpstreamExchange
from flyby.wire._head cimport HeadReader

cdef extern from "sys/socket.h" nogil:
    ssize_t c_send "send"(int fd, const void *data, size_t length, int flags)
    ssize_t c_recv "recv"(int fd, void *data, size_t length, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int c_poll "poll"(pollfd *fds, unsigned long count, int timeout)
    int POLLIN

WRITE_HIGH_WATER = 65_536  # what may wait in the transport before `paused`
cdef double INTERIM_SHARE = 4  # interim heads prolong the wait for the final one to so many times its limit at most
cdef object NEVER = Retry.NEVER


@cython.final
cdef class Outgoing:
    def __init__(self):
        self._descriptor = self.fd = -1

    cdef int attach(self, transport) except -1:
        """Write to `transport` from now on."""
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self._descriptor = sock.fileno()
            if transport.get_extra_info("sslcontext") is None:
                self.fd = self._descriptor
        return 0

    cdef int forget(self) except -1:
        """The transport is gone, or another's."""
        self._transport = None
        self.fd = self._descriptor = -1
        return 0

    cdef bint open(self) except -1:
        """Whether anything can be written. A transport that is closing may have closed the descriptor already."""
        return self._transport is not None and not self.broken and not self._transport.is_closing()

    cdef bint quiet(self) except -1:
        """Whether nothing waits to be read on the socket."""
        cdef pollfd look
        if self._descriptor < 0 or not self.open():
            return False
        look.fd = self._descriptor
        look.events = POLLIN
        look.revents = 0
        return c_poll(&look, 1, 0) == 0

    cdef bint more(self) noexcept:
        """Whether it is bytes that wait to be read; under TLS they may be no one's content."""
        cdef char byte
        return self.fd >= 0 and c_recv(self.fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0

    cdef int write(self, bytes data) except -1:
        """Send `data`; the caller has asked whether it is `open`."""
        return self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef int put(self, const char *data, Py_ssize_t length) except -1:
        """The same of bytes that are only read during the call."""
        cdef Py_ssize_t sent = 0
        if self.fd >= 0 and not self.unsent():
            sent = c_send(self.fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == length:
                return 0
            if sent < 0:
                if errno not in (EAGAIN, EINTR, ENOBUFS, ENOMEM):
                    self.broken = True
                    # Linux: EPIPE when the peer had ended its stream before it reset the connection.
                    self.reset = errno != EPIPE
                    return 0
                sent = 0
        self._queued = True
        self._transport.write(PyBytes_FromStringAndSize(data + sent, length - sent))
        return 0

    cdef Py_ssize_t receive(self, unsigned char *into, Py_ssize_t size) except -2:
        """Read past a transport that has closed itself, but not yet its socket: the bytes that were read, 0 at the end
        of the stream, -1 when there are none."""
        if self.fd < 0 or self._transport is None:
            return -1
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.fileno() != self.fd:
            return -1
        return c_recv(self.fd, into, size, MSG_DONTWAIT)

    cdef bint unsent(self) except -1:
        """Whether bytes wait in the transport."""
        if self._transport is None or (self.fd >= 0 and not self._queued):
            return False
        self._queued = self._transport.get_write_buffer_size() > 0
        return self._queued

    cdef int hurry(self, bint on) except -1:
        """Whether `paused` is to end only when the last byte has left, instead of when few are left."""
        if self._hurried != on and self._transport is not None:
            self._hurried = on
            # The transport calls `pause_writing` from within when there are bytes.
            self._transport.set_write_buffer_limits(high=0 if on else WRITE_HIGH_WATER)
        return 0

    cdef int resume(self) except -1:
        """The transport does not hold too much any more, or nothing will be sent any more."""
        told = self.on_drained
        self.paused = False
        self.on_drained = None
        if told is not None:
            told()
        return 0


cdef class RequestSide(UpstreamExchange):
    """What a connection knows and does of its request; `Connection` adds the response."""

    @property
    def died_unanswered(self):
        return self._failure is not None and self._failure.retry is not NEVER

    cpdef bint at_rest(self):
        return self._state == IDLE and self._keep

    cpdef bint quiet(self):
        """Whether nothing waits to be read: no byte of an answer that nobody asked for, no end of the stream.

        The loop may not have come round to them yet; a request that went out now would take them for its answer.
        """
        if self._out.quiet():
            return True
        self.surplus = self.surplus or self._out.more()
        return False

    cpdef send(self, data, bint more=False):
        """Write a part of the request at once. Failures surface in the receiver, in `read_head` and `drain`."""
        cdef State state = self._state
        if state == IDLE:
            self._state = SENT
            self._received = False
            self._open = more
            self.exchanges += 1
        elif state == CLOSED:
            if self._failure is None:
                self._failure = faults.terminated("the connection closed before the request was sent", Retry.ALWAYS)
        elif state >= HELD and not self._open:
            # Nobody has said that content follows, so nobody will say where it ends.
            self._keep = False
        if state == CLOSED or not self._out.open():
            return
        # Bytes only: a transport may keep what it is given, and a view's memory need not live as long.
        if not isinstance(data, bytes):
            data = bytes(data) if isinstance(data, (bytearray, memoryview)) else b"".join(data)
        self._out.write(<bytes>data)
        if state == HEAD and self._reader.empty:
            self._await()

    cpdef finish_request(self):
        if self._open:
            self._open = False
            if self._state == TAIL:
                self._rest()
            else:
                self._await()

    cpdef bint is_write_paused(self):
        return self._out.paused

    cpdef on_drained(self, callback):
        if self._out.paused and not self._closed():
            self._out.on_drained = callback
        elif callback is not None:
            callback()

    async def drain(self):
        """Wait until less than 64 KiB wait to be sent. Raises `UpstreamError` when the connection is lost."""
        if self._out.paused and not self._closed():
            await UpstreamExchange.drain(self)
        if self._closed():
            raise self._failure or faults.terminated("the connection to the origin was closed")

    # ---- what the transport does, and the limits ---------------------------------------------------------------------

    def pause_writing(self):
        self._out.paused = True
        if self._open or self._state == TAIL:
            self._await()

    def resume_writing(self):
        self._out.resume()
        if self._state == TAIL:
            self._rest()
        elif self._open or (self._state == HEAD and self._reader.empty):
            # The origin has taken request bytes just now: it is being sent to, not waited for.
            self._await()

    cdef int _await(self, double now=-1) except -1:
        """Set the limit that counts now; the loop is asked for the time when `now` is negative.

        The origin is to answer, or to go on with its answer, unless the client is still to send; and to take what is
        sent. The silence of a sink that holds the flow is not the origin's.
        """
        cdef State state = self._state
        cdef double limit = self._head_s if state == HEAD else self._between_bytes_s
        cdef bint owed = self._out.paused or not self._open
        if not owed or not (state == HEAD or state == TAIL or (state == BODY and not self._paused)):
            self._deadline.lift()
            return 0
        self._deadline.within_from(now if now >= 0 else <double>self._loop.time(), limit)
        if state == HEAD:
            self._patience = self._deadline.at + (INTERIM_SHARE - 1) * limit
        return 0

    cdef int _rest(self) except -1:
        """After the response: IDLE once the request is wholly sent."""
        if self._open or self._out.unsent():
            self.finishing = True
            if not self._open:
                self._out.hurry(True)
            self._await()
            return 0
        self._out.hurry(False)
        self._deadline.lift()
        self._state = IDLE
        if self.finishing:
            self.finished()
        return 0

    cdef bint _closed(self) noexcept:
        return self._lost or self._state == CLOSED
