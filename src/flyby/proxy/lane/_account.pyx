# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""What is told of the fast lane's answers: a count in the worker's page for each, and a line of the log.

    the whole write is out ──▶ `settle`: all of its answers, and their lines made of the bytes that still lie there
    a part of it is out ─────▶ `record` of each answer now, `counted` when a `Remainder` has sent the rest

An account belongs to one configuration: the routes of its answers are numbered as that one has them, and so are those
of the remainders that outlive it.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t

from flyby.log import AccessLog, AccessRecord
from flyby.policy import Outcome
from flyby.proxy.road._identity import identity

from flyby.log._lines cimport COMBINED, CONSOLE, OFF, Served, Text
from flyby.metrics._page cimport Metrics, Page, count, observe


@cython.final
cdef class Account:
    """`log` takes an AccessRecord of each answer, or is None; `rows` has the row of each route in the page."""

    def __init__(self, log, Metrics metrics not None, bytes rows not None, list backends not None):
        self._access = log if isinstance(log, AccessLog) else None
        self._lines = log.lines if isinstance(log, AccessLog) else None
        self.log = log.write if isinstance(log, AccessLog) else log
        self._metrics = metrics
        self._outcome = metrics.outcome(Outcome.HIT.value)
        self._kept_rows = rows
        self._rows = self._kept_rows
        self._backends = backends

    cdef int settle(self, Answer *answers, int number, bint secure, int64_t now_ms, int64_t took_us) except -1:
        """Count and log the answers of one write, which took so long."""
        cdef Served *served
        cdef int64_t before = 0
        cdef int each
        cdef bint logged = self.log is not None and (self._lines is None or self._lines.style != OFF)
        cdef Page *page = self._metrics.page
        for each in range(number):
            served = &answers[each].served
            served.sent = answers[each].end - before
            before = answers[each].end
            count(page, self._outcome, self._rows[answers[each].route], served.status, served.sent)
            observe(&page.hits, took_us)
            if not logged:
                continue
            served.time_ms = now_ms
            served.duration_us = took_us
            if self._lines is not None and (self._lines.style == CONSOLE or self._lines.style == COMBINED):
                self._lines.hit(served)
            else:
                self.log(self.record(&answers[each], secure, now_ms))
        if logged and self._lines is not None and self._lines.urgent():
            self._access.added()
        return 0

    def counted(self, int route, int status, int64_t sent, int64_t took_us):
        """Count an answer of which the socket took a part only, when the rest is sent or its client has gone."""
        count(self._metrics.page, self._outcome, self._rows[route], status, sent)
        observe(&self._metrics.page.hits, took_us)

    cdef object record(self, const Answer *answer, bint secure, int64_t now_ms):
        """The answer for a log that takes records."""
        cdef const Served *served = &answer.served
        return AccessRecord(
            time_ms=now_ms,
            method=bytes_of(served.method),
            scheme=b"https" if secure else b"http",
            host=bytes_of(served.host),
            path=bytes_of(served.path),
            version=11,
            status=served.status,
            bytes_sent=served.sent,
            duration_ms=served.duration_us / 1000,
            client=bytes_of(served.client).decode(),
            request_id=identity(bytes_of(answer.request_id)),
            outcome="hit",
            backend=self._backends[answer.route],
            user_agent=bytes_of(served.user_agent),
            referer=bytes_of(served.referer),
        )


cdef bytes bytes_of(Text text):
    return PyBytes_FromStringAndSize(<const char *>text.start, text.length)
