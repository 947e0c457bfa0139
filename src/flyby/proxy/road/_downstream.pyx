# cython: language_level=3
"""The client's side of one request, whichever version of HTTP brought it, and what may sit on it.

    Downstream   takes heads and bytes:  interim …  begin, data …, end  │  send_stored  │  abort  │  switch
    Occupant     answers the request under way; is told when the client leaves, and when its response is handed over
    ShortCut     is shown what has been read before anybody else: the fast lane
    Onward       sends on, or lets wait, a plain request that the fast lane could not answer

Behind `begin` comes `data`, `end` or `flush` within the same call. `abort` breaks a response off so that the client
sees that it is incomplete (RFC 9112 8), `reset` drops the connection at once. HTTP/1 is `http1._connection`.
"""

from flyby.errors import UpstreamError

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp


cdef class ShortCut:
    cdef Py_ssize_t run(self, Downstream client, Py_ssize_t length) except -1:
        """Answer what can be of the first `length` bytes of the read buffer; how many of them are dealt with."""
        return 0


cdef class Onward:
    cdef Py_ssize_t begin(self, Downstream client, const Sight *sight) except -1:
        """Take the request, if that is possible now; how many of its bytes are dealt with, 0 when it is not taken."""
        return 0


cdef class Occupant:
    cpdef client_lost(self):
        """The client has gone: nothing more can be sent to it."""

    cpdef client_ended(self):
        """The client sends nothing more (FIN); it may still be waiting for its response."""

    cpdef finished(self):
        """The response is handed over, or cannot be: record it, once."""


cdef class Downstream:
    """Abstract but for what every client connection knows of itself."""

    def __cinit__(self, *args, **kwargs):
        self.address = b""
        self.approved = b""

    @property
    def client(self):
        """Who the client is, as the connection tells: a `road.client.Client`."""

    @property
    def bytes_sent(self):
        """How much of this response has been handed over, in bytes."""
        return self._outbox.sent

    @property
    def address_text(self):
        """The client's address, as the log says it."""
        return self.address.decode("ascii")

    def known_as(self, str address):
        """Set the client's address, for the log and the origin."""
        self.address = address.encode("ascii", "replace")

    def stand_before(self, Downstream client not None):
        """Take over what is known of `client`'s connection: for one that gives on to it what it is given."""
        self.address, self.secure, self.approved = client.address, client.secure, client.approved
        self._outbox, self.content = client._outbox, client.content
        self.begun, self.paused = client.begun, client.paused

    cdef bint approves(self, const unsigned char *host, Py_ssize_t length) noexcept:
        """Whether a request for `host` may be answered here without asking the certificate (RFC 9110 7.4)."""
        if not self.secure:
            return True
        return length == PyBytes_GET_SIZE(self.approved) and memcmp(host, PyBytes_AS_STRING(self.approved), length) == 0

    cdef int engage(self, Occupant occupant, bint keep_alive) except -1:
        """From now on `occupant` answers a request without content that was not made a `RequestHead`."""
        raise TypeError("abstract")

    cpdef occupy(self, RequestHead request, Occupant occupant):
        """From now on `occupant` answers `request`."""
        raise TypeError("abstract")

    cpdef answered_by(self, Occupant occupant):
        """From now on `occupant` answers the request that is under way."""
        self._occupant = occupant

    cpdef on_writable(self, callback):
        """Call `callback` each time the client has caught up; None for nothing."""
        raise TypeError("abstract")

    cpdef expect_satisfied(self):
        """Send 100 (Continue) if the client waits for it (RFC 9110 10.1.1)."""

    cpdef interim(self, int status, bytes reason, fields):
        """Relay a 1xx response; not sent to HTTP/1.0 clients (RFC 9110 15.2)."""

    cpdef begin(self, int status, bytes reason, fields, long long length):
        """Begin a response; `length` is its content's length in bytes, -1 where only its end will tell."""
        raise TypeError("abstract")

    cpdef begin_ready(self, bytes head, long long length, int status):
        """`begin`, of a status line and field lines that are bytes already: no framing fields, no final CRLF."""
        raise TypeError("abstract")

    cpdef flush(self):
        """Nothing follows at once: a head that `begin` held back, to leave with the content's first part, must go."""

    cpdef bint retract(self):
        """Take back what `begin` has begun, if nothing of it was sent: another response can be begun. Else False."""
        if not self._outbox.retract():
            return False
        self.begun = False
        return True

    cpdef data(self, view):
        """Send a part of the content; `view` is only read during the call."""
        raise TypeError("abstract")

    cpdef end(self, trailers=None):
        """The response is complete."""
        raise TypeError("abstract")

    cpdef send_stored(self, bytes head, long long length, views, int status):
        """A whole response: `head` as for `begin_ready`; `views` are buffers or iterators over buffers."""
        raise TypeError("abstract")

    cpdef abort(self):
        """Break the response off."""
        raise TypeError("abstract")

    cpdef reset(self):
        """Drop the connection, whatever it is doing."""
        raise TypeError("abstract")

    cpdef switch(self, int status, bytes reason, fields, pipe):
        """Tell the client that the protocol is switched; its bytes are `pipe`'s from now on."""
        raise TypeError("abstract")

    def pipe_write(self, data):
        """Send bytes of the other protocol, after `switch`."""
        raise TypeError("abstract")

    def pipe_close(self):
        """Close in good order."""
        raise TypeError("abstract")

    def pipe_eof(self):
        """Send nothing more; where the connection has no half, close it."""
        raise TypeError("abstract")

    def pipe_pause(self, bint pause):
        """Read no more for now, or again."""
        raise TypeError("abstract")

    def detach(self, int status, bytes reason, fields):
        """Tell the client that the protocol is switched, and give the transport away, with the bytes that came ahead.

        Raises `UpstreamError` where the request has no connection of its own.
        """
        raise UpstreamError(502, "upgrade", "http_upgrade_failed", "this connection cannot be upgraded")

    cdef Py_ssize_t close_head(self, char *head, Py_ssize_t length, bint chunked) except -1:
        """Begin a response whose head, with its framing fields, is at `head`: add what this connection says and the
        empty line; the new length. At most 32 bytes are added."""
        raise TypeError("abstract")

    cdef int write_parts(self, iovec *parts, int count, size_t total) except -1:
        """Send bytes as they are, only read during the call: the head, or content that Content-Length counts."""
        raise TypeError("abstract")

    cdef int complete(self, double now) except -1:
        """The response is wholly handed over and recorded: go on with the next request, or close."""
        raise TypeError("abstract")
