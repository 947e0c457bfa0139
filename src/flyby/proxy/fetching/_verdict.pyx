# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Whether a plain response is stored, remembered; and its head for the store and for the client.

Policy is asked once for each kind of response: what decides is the status, Cache-Control, Vary and which of a few
fields are there, of the request that it has a Cookie or an Authorization (`policy.facts`). A site has few kinds,
however many pages it has. Times are policy's too: what it says of one response holds for all of the same kind that have
the same Date and come in the same second, but for the time that each request took (RFC 9111 4.2.3: age = max(apparent,
time taken), without an Age).

    status line │ its fields, but for what is the connection's │ Date │ Via │ Cache-Status │ framing      for the client
    status line │ the same, but for what is not stored         │ Date │ Via                               for the store

No verdict is given here, and the general path taken, where another field decides: a Location that may have to be
mapped, a Via to be joined, tags, targeted fields, an Age or Expires; statuses from 400 on, a response that varies.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memset

from flyby.policy import TAG_FIELDS as _TAG_FIELDS
from flyby.policy import Outcome, Reason, cache_status, facts_of, format_http_date, stamps_of, worth_packing
from flyby.policy.template import Source, template_for
from flyby.policy import times as _times
from flyby.policy.update import REPORTING as _REPORTING
from flyby.log._lines import console_words
from flyby.proxy.fetching._response import status_field
from flyby.proxy.road._identity import VIA as _VIA
from flyby.wire import HOP_BY_HOP as _HOP_BY_HOP
from flyby.wire import HeadReader as NewHeadReader

from flyby.wire._field_line cimport Span
from flyby.wire._head cimport HeadReader, ResponseHead
from flyby.wire._names import fit
from flyby.wire._names cimport NameTable
from flyby.wire._plain cimport NOT_PASSED, NOTED, Plain, glance_any_response, plain_limits
from flyby.wire._plain import plain_names
from flyby.wire._put cimport put, put_number, text_of

cdef tuple REPORT_NAMES = tuple(sorted(_REPORTING))
cdef tuple NOTED_NAMES = (
    b"date", b"cache-control", b"set-cookie", b"etag", b"last-modified", b"content-type", b"content-encoding", b"vary",
    *REPORT_NAMES,
)
cdef unsigned int NOT_STORED = NOT_PASSED
for _index in range(len(REPORT_NAMES)):
    NOT_STORED |= <unsigned int>NOTED << (<int>REPORT + _index)

cdef enum:
    MOST_KINDS = 512
    LONGEST_VALUE = 256
    HIGHEST_STATUS = 399

cdef bytes BEFORE = b"Via: " + _VIA + b"\r\nCache-Status: "
cdef bytes VIA_LINE = b"Via: " + _VIA + b"\r\n"
OWN_LIFETIMES = frozenset((Source.GIVEN, Source.ROUTE))  # counted from when a response came, whatever its fields

cdef object MISS = Outcome.MISS
cdef object PASS = Outcome.PASS
cdef object REVALIDATED = Outcome.REVALIDATED


cdef class Words:
    """What is said of a response: in Cache-Status, in the log, in the metrics."""

    def __init__(self, outcome, reason, bytes member not None, Metrics metrics not None):
        self.outcome = outcome
        self.reason = reason
        self.member = member
        self.before, _, self.after = (BEFORE + member + b"\r\n").partition(b"200")
        word = reason.value if reason is not None else ""
        self._column, self._tail = console_words(outcome.value, word)
        self.column, self.tail = text_of(self._column), text_of(self._tail)
        self.count = metrics.counter(outcome.value, word)


cdef class Verdict:
    """On one kind of response."""

    def __init__(self, reason, template, bint packable):
        self.reason = reason
        self.template = template
        self.packable = packable
        self._words = {}


cdef class Verdicts:
    """The verdicts under one route's rules."""

    def __init__(self, rules, limits, Metrics metrics not None):
        not_passed = _HOP_BY_HOP | _TAG_FIELDS if rules.strip_tags else _HOP_BY_HOP
        never = (*rules.targeted, *_TAG_FIELDS, b"via", b"location", b"content-location", b"age", b"expires")
        told = plain_names(not_passed, NOTED_NAMES, never)
        # An operator may name fields that no table takes; there everything takes the general path.
        self._usable = fit(told)
        self._names = NameTable(told if self._usable else {})
        plain_limits(limits, &self._limits)
        self._rules = rules
        self._wire_limits = limits
        self._metrics = metrics
        self._known = {}
        self._second = -1

    cdef bint glance(self, const unsigned char *base, Py_ssize_t size, Plain *to) noexcept:
        """Whether the bytes begin with a plain head that this file has something to say about."""
        memset(to.noted, 0, sizeof(to.noted))  # a field that is not there has the length 0
        if not self._usable or not glance_any_response(base, size, &self._limits, self._names, False, to):
            return False
        if to.status > HIGHEST_STATUS or to.status == 206 or to.status == 304 or to.status == 204 or to.closes:
            return False
        if to.again & (NOTED << CONTROL | NOTED << VARY | NOTED << DATE) or to.noted[<int>VARY].length:
            return False
        # RFC 9110 6.6.1: an empty Date counts as missing, and is replaced.
        return not to.seen & (NOTED << DATE) or to.noted[<int>DATE].length > 0

    cdef bint unchanged(self, const unsigned char *base, Py_ssize_t size, bytes stored, Plain *to) except -1:
        """Whether the bytes begin with a plain 304 each of whose fields, but for Date, stands in the stored head (RFC
        9111 4.3.4): then nothing but times is new."""
        cdef Span name, value
        cdef int number
        memset(to.noted, 0, sizeof(to.noted))
        if not self._usable or not glance_any_response(base, size, &self._limits, self._names, False, to):
            return False
        if to.status != 304 or to.closes or to.content >= 0:
            return False
        if not to.noted[<int>DATE].length or to.again & (NOTED << DATE):
            return False
        for number in range(to.count):
            if to.told[number] & (NOT_STORED | NOTED << DATE):
                continue
            name, value = to.names[number], to.values[number]
            line = b"\r\n%b: %b\r\n" % (
                PyBytes_FromStringAndSize(<const char *>base + name.start, name.length),
                PyBytes_FromStringAndSize(<const char *>base + value.start, value.length),
            )
            if line not in stored:
                return False
        return True

    cdef Verdict judge_stored(self, bytes stored, int asking, exchange):
        """The verdict on a stored response, by its head; None when there is none here."""
        cdef Plain seen
        cdef bytes text = stored + b"Content-Length: 0\r\n\r\n"
        cdef bytes without_via = text.replace(VIA_LINE, b"")
        cdef const unsigned char *base = <const unsigned char *>PyBytes_AS_STRING(without_via)
        if not self.glance(base, PyBytes_GET_SIZE(without_via), &seen):
            return None
        return self.judge(base, &seen, asking, exchange)

    cdef Words words_of_validated(self, Verdict verdict, long long ttl_s):
        """What is said of a stored response that the origin has just said is still right."""
        cdef Words words = verdict._words.get(ttl_s)
        if words is None:
            if len(verdict._words) > MOST_KINDS:
                verdict._words.clear()
            member = cache_status(REVALIDATED, Reason.STALE, ttl_s=ttl_s, fwd_status=304)
            words = Words(REVALIDATED, Reason.STALE, member, self._metrics)
            verdict._words[ttl_s] = words
        return words

    cdef Verdict judge(self, const unsigned char *base, const Plain *seen, int asking, exchange):
        """The verdict; None when there is none here. `exchange` is asked for the request when the kind is new."""
        cdef Verdict verdict
        cdef Span control = seen.noted[<int>CONTROL]
        cdef Span content_type = seen.noted[<int>TYPE]
        cdef char kind[LONGEST_VALUE + 8]
        cdef int bits = asking
        if control.length > LONGEST_VALUE or seen.seen & (NOTED << VARY):
            return None
        bits |= 4 if seen.seen & (NOTED << CONTROL) else 0
        bits |= 8 if seen.seen & (NOTED << COOKIE) else 0
        bits |= 16 if seen.noted[<int>ETAG].length else 0
        bits |= 32 if seen.noted[<int>MODIFIED].length else 0
        bits |= 64 if seen.noted[<int>ENCODING].length else 0
        kind[0] = <char>(seen.status - 200)
        kind[1] = <char>bits
        put(kind + 2, <const char *>base + control.start, control.length)
        # Of the type only its first bytes: they tell text from images.
        key = (
            PyBytes_FromStringAndSize(kind, 2 + control.length),
            PyBytes_FromStringAndSize(<const char *>base + content_type.start, min(content_type.length, 64)),
        )
        verdict = self._known.get(key)
        if verdict is None:
            verdict = self._learn(self._parsed(base, seen), exchange)
            if len(self._known) >= MOST_KINDS:
                self._known.clear()
            self._known[key] = verdict
        return verdict

    cdef ResponseHead _parsed(self, const unsigned char *base, const Plain *seen):
        """The same head as the full parser reads it: what a glance recognised is one for it too."""
        cdef HeadReader reader = NewHeadReader(self._wire_limits, "response")
        reader._feed(base, seen.length)
        return reader.take_response()

    def _learn(self, head, exchange):
        """Ask policy about a kind of response of which `head` is one."""
        template = template_for(facts_of(exchange.request, head, self._rules), self._rules)
        if isinstance(template, Reason):
            return Verdict(template, None, False)
        return Verdict(None, template, worth_packing(head.fields))

    cdef Words words(self, Verdict verdict, why, bint offered, bint stored):
        """What is said of a response of that kind that was asked for `why`."""
        cdef tuple key = (why, offered, stored)
        cdef Words words = verdict._words.get(key)
        if words is None:
            if not offered:
                words = Words(PASS, why, status_field(PASS, why, 200), self._metrics)
            elif stored:
                words = Words(MISS, why, status_field(MISS, why, 200, True), self._metrics)
            else:
                reason = verdict.reason
                words = Words(PASS, reason, status_field(MISS, why, 200, False, reason.value), self._metrics)
            verdict._words[key] = words
        return words

    cdef bint times(
        self, Verdict verdict, const unsigned char *base, const Plain *seen, int64_t request_ms, int64_t response_ms
    ) except -1:
        """Work out the verdict's times for a response that has just come; False when it is not worth keeping."""
        cdef Span date = seen.noted[<int>DATE]
        cdef int64_t second = response_ms // 1000
        if verdict._second == second and verdict._date is not None:
            if PyBytes_GET_SIZE(verdict._date) == <Py_ssize_t>date.length and (
                verdict._date == PyBytes_FromStringAndSize(<const char *>base + date.start, date.length)
            ):
                return True
        head = self._parsed(base, seen)
        known = _times(verdict.template, stamps_of(head.fields), response_ms, response_ms)
        if isinstance(known, Reason):
            return False
        when, flags = known
        verdict.age_ms = response_ms - when.born_ms
        verdict.life_ms = when.fresh_ms - when.born_ms
        verdict.flags, verdict.swr_s, verdict.sie_s = flags, when.swr_s, when.sie_s
        if verdict.template.source in OWN_LIFETIMES:
            verdict._date = PyBytes_FromStringAndSize(<const char *>base + date.start, date.length)
            verdict._second = second
        return True

    cdef char *put_fields(
        self, char *to, const unsigned char *base, const Plain *seen, unsigned int but, long long now_ms
    ):
        """The status line and the fields that have none of the bits `but`, and a Date where there is none."""
        cdef Span name
        cdef Span value
        cdef int number
        to = put(to, <const char *>base, 13 + seen.reason.length + 2)
        for number in range(seen.count):
            if seen.told[number] & but:
                continue
            name = seen.names[number]
            value = seen.values[number]
            if value.start == name.start + name.length + 2 and base[value.start - 1] == c" ":
                to = put(to, <const char *>base + name.start, value.start + value.length - name.start)
            else:
                to = put(put(to, <const char *>base + name.start, name.length), ": ", 2)
                to = put(to, <const char *>base + value.start, value.length)
            to = put(to, "\r\n", 2)
        if not seen.seen & (NOTED << DATE):
            if self._second != now_ms // 1000:
                self._second = now_ms // 1000
                self._now = b"Date: " + format_http_date(self._second) + b"\r\n"
            to = put(to, PyBytes_AS_STRING(self._now), PyBytes_GET_SIZE(self._now))
        return to

    cdef Py_ssize_t put_response(
        self, char *start, const unsigned char *base, const Plain *seen, Words words, long long now_ms
    ) except -1:
        """Write the client's head but for Connection and its empty line; its length, which is at most 512 more than
        what came and 2 for each field."""
        cdef char *to = self.put_fields(start, base, seen, NOT_PASSED, now_ms)
        to = put(to, PyBytes_AS_STRING(words.before), PyBytes_GET_SIZE(words.before))
        to = put(to, <const char *>base + 9, 3)
        to = put(to, PyBytes_AS_STRING(words.after), PyBytes_GET_SIZE(words.after))
        if seen.content < 0:
            return put(to, "Transfer-Encoding: chunked\r\n", 28) - start
        return put(put_number(put(to, "Content-Length: ", 16), seen.content), "\r\n", 2) - start

    cdef bytes stored_head(self, const unsigned char *base, const Plain *seen, long long now_ms):
        """The head as it is stored."""
        cdef char *to
        cdef bytes head = PyBytes_FromStringAndSize(NULL, seen.length + 2 * seen.count + 128)
        to = self.put_fields(PyBytes_AS_STRING(head), base, seen, NOT_STORED, now_ms)
        to = put(to, PyBytes_AS_STRING(VIA_LINE), PyBytes_GET_SIZE(VIA_LINE))
        return head[: to - PyBytes_AS_STRING(head)]

    def passed_head(self, bytes data not None, exchange, why, long long now_ms):
        """(the reason, or None when it is stored, the head for the client) of a response, or None; for the tests."""
        cdef Plain seen
        cdef Verdict verdict
        cdef bytearray to
        cdef char *start
        if not self.glance(data, len(data), &seen):
            return None
        verdict = self.judge(data, &seen, 0, exchange)
        if verdict is None:
            return None
        words = self.words(verdict, why, True, verdict.reason is None)
        to = bytearray(seen.length + 2 * seen.count + 512)
        start = to
        return verdict.reason, bytes(to[: self.put_response(start, data, &seen, words, now_ms)])
