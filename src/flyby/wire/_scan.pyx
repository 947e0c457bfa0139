# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Field lines, scanned once, byte by byte, strictly (RFC 9112 5).

A section is zero or more `name ":" OWS value OWS CRLF` and one empty line. The scanner sees every byte once: it keeps
its state and its offsets between calls, so that a section which arrives in a thousand pieces costs what it costs in
one, and gives the same verdict. The buffer belongs to the caller, who passes the same bytes again (perhaps at another
address) with more behind them.

A bare CR or LF, NUL, white space before the first name, a folded line (obs-fold) and an empty name are faults: each of
them is read differently by some other server. So are in a request white space before the colon and control bytes in a
value; in a response these are mended or kept, but never in a field that frames the message (`agreement` has the list).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from flyby.errors import WireError
from flyby.wire._classes cimport CLASSES, TOKEN, VALUE
from flyby.wire._fields cimport Fields
from flyby.wire.agreement import TO_THE_LETTER as _TO_THE_LETTER_NAMES

cdef frozenset _TO_THE_LETTER = _TO_THE_LETTER_NAMES

# Spellings that messages really use, so that their lower-case names are made once.
cdef dict _KEYS = {}
for _name in (
    b"Accept", b"Accept-CH", b"Accept-Charset", b"Accept-Encoding", b"Accept-Language", b"Accept-Ranges",
    b"Access-Control-Allow-Credentials", b"Access-Control-Allow-Headers", b"Access-Control-Allow-Methods",
    b"Access-Control-Allow-Origin", b"Access-Control-Expose-Headers", b"Access-Control-Max-Age",
    b"Access-Control-Request-Headers", b"Access-Control-Request-Method", b"Age", b"Allow", b"Alt-Svc", b"Authorization",
    b"CDN-Cache-Control", b"Cache-Control", b"Cache-Status", b"Connection", b"Content-Disposition",
    b"Content-Encoding", b"Content-Language", b"Content-Length", b"Content-Location", b"Content-Range",
    b"Content-Security-Policy", b"Content-Type", b"Cookie", b"Cross-Origin-Opener-Policy",
    b"Cross-Origin-Resource-Policy", b"DNT", b"Date", b"ETag", b"Expect", b"Expires", b"Forwarded", b"Host",
    b"If-Match", b"If-Modified-Since", b"If-None-Match", b"If-Range", b"If-Unmodified-Since", b"Keep-Alive",
    b"Last-Modified", b"Link", b"Location", b"Origin", b"Permissions-Policy", b"Pragma", b"Priority",
    b"Proxy-Connection", b"Range", b"Referer", b"Referrer-Policy", b"Retry-After", b"Sec-CH-UA",
    b"Sec-CH-UA-Mobile", b"Sec-CH-UA-Platform", b"Sec-Fetch-Dest", b"Sec-Fetch-Mode", b"Sec-Fetch-Site",
    b"Sec-Fetch-User", b"Sec-WebSocket-Extensions", b"Sec-WebSocket-Key", b"Sec-WebSocket-Protocol",
    b"Sec-WebSocket-Version", b"Server", b"Server-Timing", b"Set-Cookie", b"Strict-Transport-Security",
    b"Surrogate-Control", b"Surrogate-Key", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade",
    b"Upgrade-Insecure-Requests", b"User-Agent", b"Vary", b"Via", b"WWW-Authenticate", b"X-Cache",
    b"X-Content-Type-Options", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Port", b"X-Forwarded-Proto",
    b"X-Frame-Options", b"X-Powered-By", b"X-Request-ID", b"X-Requested-With", b"X-Runtime", b"X-XSS-Protection",
):
    _lower = _name.lower()
    _KEYS[_name] = _lower
    _KEYS[_lower] = _lower


cdef bint _spells(bytes key, const char *letters):
    """Whether the letters and digits of a lower-case name spell exactly `letters`."""
    cdef const char *text = PyBytes_AS_STRING(key)
    cdef Py_ssize_t index
    cdef Py_ssize_t at = 0
    cdef char byte
    for index in range(PyBytes_GET_SIZE(key)):
        byte = text[index]
        if c"a" <= byte <= c"z" or c"0" <= byte <= c"9":
            if letters[at] == 0 or letters[at] != byte:
                return False
            at += 1
    return letters[at] == 0


cdef bint imitates_framing(bytes key):
    """Whether CGI and WSGI servers would take this name for a framing field's, which it is not."""
    if len(key) < 13 or key == b"content-length" or key == b"transfer-encoding":
        return False
    return _spells(key, "contentlength") or _spells(key, "transferencoding")


@cython.final
cdef class FieldSection:
    """Reads one field section; the owner calls `begin` before each."""

    def __cinit__(self, limits, side, *, bint trailers=False):
        self.strict = side == "request"
        self.frames = not trailers
        if side == "request":
            self.fault, self.excess = 400, 431
            self.line_limit, self.block_limit, self.count_limit = limits.header_line, limits.header_block, limits.fields
        elif side == "response":
            self.fault = self.excess = 502
            self.line_limit, self.block_limit = limits.response_header_line, limits.response_block
            self.count_limit = limits.response_fields
        else:
            raise ValueError(f"a message is a request or a response: {side!r}")
        self.begin(0)

    cdef void begin(self, Py_ssize_t offset):
        self.fields = Fields()
        self.state = LINE_START
        self.corrected = self.odd = False
        self.move(offset)

    cdef void move(self, Py_ssize_t offset):
        """Let the section that was begun have its first line at `offset`."""
        self.line = offset
        self.block_stop = offset + self.block_limit

    cdef object malformed(self, str reason, str detail):
        return WireError(self.fault, reason, detail)

    cdef int _commit(self, const unsigned char *base) except -1:
        cdef Py_ssize_t end = self.value_end
        cdef bytes name = PyBytes_FromStringAndSize(<const char *>base + self.line, self.name_end - self.line)
        cdef bytes key
        while end > self.value_start and (base[end - 1] == c" " or base[end - 1] == c"\t"):
            end -= 1
        found = _KEYS.get(name)
        if found is None:
            key = name.lower()
            # CGI and WSGI servers fold names: Content_Length arrives at the app as a second Content-Length.
            if self.strict and self.frames and imitates_framing(key):
                raise self.malformed("field-name-alias", "a field name imitates a framing field")
        else:
            key = <bytes>found
        if self.odd:
            self._odd_line(key)
        self.fields.append(
            name, key, PyBytes_FromStringAndSize(<const char *>base + self.value_start, end - self.value_start)
        )
        return 0

    cdef int _odd_line(self, bytes key) except -1:
        """Take note of a line that llhttp would refuse, unless its field frames the message."""
        if self.frames and (key in _TO_THE_LETTER or imitates_framing(key)):
            raise self.malformed("framing-field", "a field that frames the message is not in its exact form")
        self.corrected = True
        self.odd = False
        return 0

    cdef Py_ssize_t scan(self, const unsigned char *base, Py_ssize_t position, Py_ssize_t end) except -1:
        """Scan from `position` to `end`; return where it stopped, which is behind the empty line once DONE."""
        cdef Py_ssize_t stop
        cdef Py_ssize_t line_stop
        cdef unsigned char byte
        while True:
            line_stop = min(self.line + self.line_limit + 2, self.block_stop)
            stop = min(end, line_stop)
            while position < stop:
                byte = base[position]
                if self.state == CONTENT:
                    while position < stop and CLASSES[base[position]] & VALUE:
                        position += 1
                    if position == stop:
                        break
                    byte = base[position]
                    if byte != c"\r":
                        if self.strict or byte == c"\n" or byte == 0:
                            raise self.malformed("field-value", "a field value holds a control byte or a bare line end")
                        self.odd = True
                        position += 1
                        continue
                    self.value_end = position
                    self.state = LINE_FEED
                elif self.state == NAME:
                    while position < stop and CLASSES[base[position]] & TOKEN:
                        position += 1
                    if position == stop:
                        break
                    self.name_end = position
                    byte = base[position]
                    if byte == c":":
                        self.state = PADDING
                    elif not self.strict and (byte == c" " or byte == c"\t"):
                        self.odd = True
                        self.state = GAP
                    else:
                        raise self.malformed("field-name", "a field name is not a token followed by a colon")
                elif self.state == PADDING:
                    if byte != c" " and byte != c"\t":
                        self.value_start = position
                        self.state = CONTENT
                        continue
                elif self.state == GAP:
                    if byte == c":":
                        self.state = PADDING
                    elif byte != c" " and byte != c"\t":
                        raise self.malformed("field-name", "a field name is not a token followed by a colon")
                elif self.state == LINE_START:
                    if byte == c"\r":
                        self.state = LAST_FEED
                    elif CLASSES[byte] & TOKEN:
                        if len(self.fields._keys) >= self.count_limit:
                            raise WireError(self.excess, "too-many-fields", "the message has more fields than allowed")
                        self.state = NAME
                    elif byte == c" " or byte == c"\t":
                        raise self.malformed("field-fold", "a field line begins with white space (obs-fold)")
                    else:
                        raise self.malformed("field-name", "a field line does not begin with a name")
                elif self.state == LINE_FEED:
                    if byte != c"\n":
                        raise self.malformed("bare-cr", "a carriage return without a line feed")
                    self._commit(base)
                    self.state = LINE_START
                    position += 1
                    self.line = position
                    break
                else:
                    if byte != c"\n":
                        raise self.malformed("bare-cr", "a carriage return without a line feed")
                    self.state = DONE
                    return position + 1
                position += 1
            if position >= self.block_stop:
                raise WireError(self.excess, "fields-too-large", "all field lines together exceed the limit")
            if position >= line_stop and self.state != LINE_START:
                raise WireError(self.excess, "field-line-too-long", "a field line exceeds the limit")
            if position >= end:
                return position
