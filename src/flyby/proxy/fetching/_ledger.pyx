# cython: language_level=3
# cython: boundscheck=False, wraparound=False, cdivision=True
"""Where the plain requests of one route are recorded: a count and a line of the log, with no object for either.

It tells the same as `road.recording`, which has the general way and is taken here for logs whose lines only Python
makes, and for an exchange that ended otherwise than its words say (a failure on the way). The line is made of the
request's bytes, which the exchange keeps.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t

from flyby.proxy.road.recording import record

from flyby.clock cimport monotonic, wall_ms
from flyby.log._lines cimport COMBINED, OFF, Served
from flyby.wire._put cimport text_at, text_of


@cython.final
cdef class Ledger:
    """`log` is the access log that takes lines, or None; `logged` says that there is a log of some kind."""

    def __init__(self, log, bint logged, unsigned int row):
        self._access = log
        self._lines = None if log is None else log.lines
        self._logged = logged
        self._row = row

    cdef int write(self, Exchange exchange, Words words) except -1:
        """Record the request, which has had its answer; `words` is what was said of the response."""
        cdef const unsigned char *base = <const unsigned char *>PyBytes_AS_STRING(exchange.text)
        cdef Served served
        cdef int64_t took = <int64_t>((monotonic() - exchange.started) * 1e6)
        if exchange.reason is not words.reason or (
            self._logged and (self._lines is None or self._lines.style > COMBINED)
        ):
            record(exchange)
            return 0
        words.count.add(
            self._row, exchange.status, exchange.downstream._outbox.sent, took,
            <int64_t>(exchange.first_byte_ms * 1000),
        )
        if not self._logged or self._lines.style == OFF:
            return 0
        served.time_ms = wall_ms()
        served.duration_us = took
        served.sent = exchange.downstream._outbox.sent
        served.status = exchange.status
        served.method = text_at(base, exchange.verb)
        served.host = text_at(base, exchange.host)
        served.path = text_at(base, exchange.target)
        served.client = text_of(exchange.downstream.address)
        served.user_agent = text_at(base, exchange.user_agent)
        served.referer = text_at(base, exchange.referer)
        self._lines.line(&served, words.column, words.tail)
        if self._lines.urgent():
            self._access.added()
        return 0
