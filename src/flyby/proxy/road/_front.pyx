# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The front of a client connection: every read arrives here, and most go no further.

    buffer_updated ─ nothing under way? ─▶ Lane.run: whole plain requests that the store can answer ─▶ one write
          └────────── what is left, or all of it ─▶ `_receive` of the Python class, byte for byte as it came

It holds no rule of its own: `clear` only makes sure that the fast lane never overtakes anything, neither a request
whose head has begun, nor pipelined ones, nor a response that is still being sent.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

from flyby.wire._glance cimport Glance
from flyby.wire._head cimport LEADING


cdef class Answerer:
    cdef Py_ssize_t run(self, Front client, Py_ssize_t length) except -1:
        """Answer what can be of the first `length` bytes in the read buffer; how many of them are dealt with."""
        return 0


cdef class Onward:
    """Where a request goes that the fast lane recognised and cannot answer."""

    cdef bint begin(
        self, Front client, const unsigned char *base, const Glance *seen, double now, long long now_ms
    ) except -1:
        """Take the request that was seen at `base`, if that is possible now."""
        return False


cdef class Front:
    def __cinit__(self, connections, bytes scheme, *args, **kwargs):
        self._lane = connections.lane
        self._stage = "idle"
        self.secure = scheme == b"https"
        self.address = b""
        self.approved = b""

    def get_buffer(self, Py_ssize_t sizehint):
        """Where the event loop reads to: one buffer serves all connections, for nothing of it outlives the call."""
        return self._lane.read_buffer

    def buffer_updated(self, Py_ssize_t nbytes):
        """So many bytes have been read."""
        cdef Py_ssize_t used = 0
        if self.clear():
            used = self._lane.run(self, nbytes)
        if used < nbytes:
            self._receive(self._lane.read_buffer[used:nbytes])

    cdef bint clear(self) except -1:
        """Whether a request may be answered at once: nothing has begun and nothing waits."""
        if (
            self._stage != "idle" or self._exchange is not None or self._closing or self.paused
            or self._pipe is not None or self._lane.closed
        ):
            return False
        if self._pending is not None and len(self._pending):
            return False
        # Empty lines before a request count, over all reads.
        if self._reader is not None and (self._reader._state != LEADING or self._reader._empty_lines):
            return False
        return self._outbox.clear_way()

    cdef bint approves(self, const unsigned char *host, Py_ssize_t length) noexcept:
        """Whether a request for `host` may be answered here without asking the certificate (RFC 9110 7.4)."""
        if not self.secure:
            return True
        return length == PyBytes_GET_SIZE(self.approved) and memcmp(host, PyBytes_AS_STRING(self.approved), length) == 0

    def known_as(self, str address):
        """The client's address, for the log."""
        self.address = address.encode("ascii", "replace")
