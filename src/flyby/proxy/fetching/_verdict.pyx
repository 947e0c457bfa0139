# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Why a plain response is not stored, where its head shows that at once; and its head for the client.

    status line │ its fields, but for what is the connection's │ Date │ Via │ Cache-Status │ framing

The reasons that show at once are the first that `storable` asks for: no-store, private, and under a profile that guards
cookies Set-Cookie without a word that permits it. Cache-Control is read by `policy`, which is asked once about
each value and not again while the value is among the last sixteen. Everything else gets no verdict here, and goes
the long way: what might be stored, what another field than Cache-Control decides, a status that is about another response.

The head is what `_response` writes of the same response; the tests compare the two byte for byte.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy

from flyby.policy import TAG_FIELDS as _TAG_FIELDS
from flyby.policy import Outcome, Reason, format_http_date, parse_cache_control
from flyby.log._lines import console_words
from flyby.log._lines cimport Text
from flyby.proxy.fetching._response import status_field
from flyby.proxy.road._identity import VIA as _VIA
from flyby.wire import HOP_BY_HOP as _HOP_BY_HOP
from flyby.wire._glance cimport Span
from flyby.wire._names import fit
from flyby.wire._names cimport NameTable
from flyby.wire._plain cimport NOT_PASSED, NOTED, Plain, glance_response, plain_limits
from flyby.wire._plain import plain_names

cdef enum Meaning:
    UNCLEAR = 0    # not ours to say
    NO_STORE = 1
    PRIVATE = 2
    NO_COOKIE = 3  # nothing that permits it: with a Set-Cookie it is not stored

cdef enum Noted:  # in the order of `NOTED_NAMES`
    DATE = 0
    CONTROL = 1
    COOKIE = 2

cdef enum:
    VALUES = 16
    LONGEST_VALUE = 256

cdef tuple NOTED_NAMES = (b"date", b"cache-control", b"set-cookie")
cdef bytes BEFORE = b"Via: " + _VIA + b"\r\nCache-Status: "


cdef inline char *put(char *to, const char *text, Py_ssize_t length) noexcept nogil:
    memcpy(to, text, length)
    return to + length


cdef inline char *put_number(char *to, long long number) noexcept nogil:
    cdef char digits[24]
    cdef int at = 24
    while True:
        at -= 1
        digits[at] = <char>(c"0" + number % 10)
        number //= 10
        if not number:
            break
    return put(to, digits + at, 24 - at)


cdef Text text_of(bytes value):
    cdef Text text
    text.start = value
    text.length = len(value)
    return text


cdef class Verdict:
    """One reason, in the words of the client's head, of the log and of the metrics."""

    def __init__(self, reason, metrics):
        self.reason = reason
        member = status_field(Outcome.MISS, Reason.HIT_FOR_MISS, 200, False, reason.value)
        before, status, self._after = (BEFORE + member + b"\r\n").partition(b"200")
        self._before = before
        self._column, self._tail = console_words(Outcome.PASS.value, reason.value)
        self.column, self.tail = text_of(self._column), text_of(self._tail)
        self.count = metrics.counter(Outcome.PASS.value, reason.value)


cdef class Verdicts:
    """The verdicts under one route's rules."""

    def __init__(self, rules, limits, metrics):
        not_passed = _HOP_BY_HOP | _TAG_FIELDS if rules.strip_tags else _HOP_BY_HOP
        # A Location may have to be mapped, a Via to be joined.
        never = (*rules.targeted, b"via", b"location", b"content-location")
        told = plain_names(not_passed, NOTED_NAMES, never)
        # An operator may name fields that no table takes; there everything goes the long way.
        self._usable = fit(told)
        self._names = NameTable(told if self._usable else {})
        plain_limits(limits, &self._limits)
        self._guard_cookies = rules.points.guard_cookies
        self._no_store = Verdict(Reason.NO_STORE, metrics)
        self._private = Verdict(Reason.PRIVATE, metrics)
        self._set_cookie = Verdict(Reason.SET_COOKIE, metrics)
        self._second = -1
        self._values = []

    cdef bint glance(self, const unsigned char *base, Py_ssize_t size, Plain *to) noexcept:
        """Whether the bytes begin with a plain head that can be passed on as it is."""
        if not self._usable or not glance_response(base, size, &self._limits, self._names, to):
            return False
        if to.status == 206 or to.status == 412 or to.status == 416 or to.again & (NOTED << CONTROL):
            return False
        # RFC 9110 6.6.1: an empty one is none, and then ours stands in its place.
        return not to.seen & (NOTED << DATE) or to.noted[<int>DATE].length > 0

    cdef Verdict judge(self, const unsigned char *base, const Plain *seen):
        """Why it is not stored, for a plain GET; None when that does not show at once."""
        cdef int meaning
        cdef Span control
        control.start = control.length = 0
        if seen.seen & (NOTED << CONTROL):
            control = seen.noted[<int>CONTROL]
        meaning = self._meaning(base + control.start, control.length)
        if meaning == NO_STORE:
            return self._no_store
        if meaning == PRIVATE:
            return self._private
        if meaning == NO_COOKIE and seen.seen & (NOTED << COOKIE):
            return self._set_cookie
        return None

    cdef int _meaning(self, const unsigned char *value, Py_ssize_t length) except -1:
        """What a value of Cache-Control says to that; b"" when there is none."""
        cdef int at
        cdef bytes known
        if length > LONGEST_VALUE:
            return UNCLEAR
        for at in range(len(self._values)):
            known = <bytes>self._values[at]
            if PyBytes_GET_SIZE(known) == length and memcmp(PyBytes_AS_STRING(known), value, length) == 0:
                return self._meanings[at]
        known = PyBytes_FromStringAndSize(<const char *>value, length)
        if len(self._values) < VALUES:
            self._values.append(known)
        else:
            self._values[self._next] = known
        at = self._next
        self._next = (at + 1) % VALUES
        self._meanings[at] = self._read(known)
        return self._meanings[at]

    def _read(self, bytes value):
        control = parse_cache_control(value)
        if control.malformed or control.must_understand:
            return <int>UNCLEAR
        if control.no_store:
            return <int>NO_STORE
        if control.private or (control.private_fields and self._guard_cookies):
            return <int>PRIVATE
        if self._guard_cookies and not control.public and control.s_maxage is None:
            return <int>NO_COOKIE
        return <int>UNCLEAR

    cdef Py_ssize_t put_response(
        self, char *start, const unsigned char *base, const Plain *seen, Verdict verdict, long long now_ms
    ) except -1:
        """Write the head but for Connection and its empty line; its length, which is at most 512 more than what came
        and 2 for each field.
        """
        cdef char *to = start
        cdef Span name
        cdef Span value
        cdef int number
        to = put(to, <const char *>base, 13 + seen.reason.length + 2)
        for number in range(seen.count):
            if seen.told[number] & NOT_PASSED:
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
                self._date = b"Date: " + format_http_date(self._second) + b"\r\n"
            to = put(to, PyBytes_AS_STRING(self._date), PyBytes_GET_SIZE(self._date))
        to = put(to, PyBytes_AS_STRING(verdict._before), PyBytes_GET_SIZE(verdict._before))
        to = put(to, <const char *>base + 9, 3)
        to = put(to, PyBytes_AS_STRING(verdict._after), PyBytes_GET_SIZE(verdict._after))
        if seen.content < 0:
            return put(to, "Transfer-Encoding: chunked\r\n", 28) - start
        return put(put_number(put(to, "Content-Length: ", 16), seen.content), "\r\n", 2) - start

    def passed_head(self, bytes data not None, long long now_ms):
        """(the reason, the head for the client) of a response, or None; for the tests."""
        cdef Plain seen
        cdef Verdict verdict
        cdef bytearray to
        cdef char *start
        if not self.glance(data, len(data), &seen):
            return None
        verdict = self.judge(data, &seen)
        if verdict is None:
            return None
        to = bytearray(seen.length + 2 * seen.count + 512)
        start = to
        return verdict.reason, bytes(to[: self.put_response(start, data, &seen, verdict, now_ms)])
