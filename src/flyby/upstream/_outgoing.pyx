# cython: language_level=3
"""The writing side of an upstream connection: to the socket at once, or behind what its transport still holds.

A request of one piece is one send(2) on a plain TCP socket; a transport would keep it to the end of the loop's round.
What the socket does not take, and all that goes over TLS, is the transport's; until that has left, everything else
queues up behind it.
"""

import asyncio

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cdef extern from "sys/socket.h" nogil:
    ssize_t c_send "send"(int fd, const void *data, size_t length, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int c_poll "poll"(pollfd *fds, unsigned long count, int timeout)
    int POLLIN

WRITE_HIGH_WATER = 65_536  # `wait` waits above it


@cython.final
cdef class Outgoing:
    def __init__(self, loop):
        self._loop = loop
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
        return self._transport is not None and not self._transport.is_closing()

    cdef bint quiet(self) except -1:
        """Whether nothing waits to be read on the socket."""
        cdef pollfd look
        if self._descriptor < 0 or not self.open():
            return False
        look.fd = self._descriptor
        look.events = POLLIN
        look.revents = 0
        return c_poll(&look, 1, 0) == 0

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
            # After a fault the transport meets the same one, and ends in its own way.
            sent = max(sent, 0)
        self._queued = True
        self._transport.write(PyBytes_FromStringAndSize(data + sent, length - sent))
        return 0

    cdef bint unsent(self) except -1:
        """Whether bytes wait in the transport."""
        if self._transport is None or (self.fd >= 0 and not self._queued):
            return False
        self._queued = self._transport.get_write_buffer_size() > 0
        return self._queued

    cdef int pause(self) except -1:
        """The transport holds too much."""
        self._paused = True
        return 0

    cdef int resume(self) except -1:
        """It does not any more, or never will again."""
        self._paused = False
        drained = self._drained
        self._drained = None
        if drained is not None and not drained.done():
            drained.set_result(None)
        return 0

    cdef object wait(self):
        """What to await before more is written; None when nothing is."""
        if not self._paused:
            return None
        if self._drained is None:
            self._drained = self._loop.create_future()
        # Shielded: the one future serves all who wait.
        return asyncio.shield(self._drained)
