# cython: language_level=3
"""The map of a glance at a request: offsets into the bytes that were read, and no Python object.

    GET /a?b HTTP/1.1\\r\\nHost: shop.test\\r\\nAccept: */*\\r\\n\\r\\n
        └─target─┘             └──host──┘   └name─┘ └value       length: behind the last byte
"""

cdef enum:
    MOST_FIELDS = 64  # a head with more of them is not recognised

# What is told about the fields that decide something. A bit of `seen` each; of `again` where there are two such lines.
cdef enum:
    OTHER = 0
    HOST = 1
    CONNECTION = 2  # its value was `keep-alive`; any other is not recognised
    COOKIE = 4
    AUTHORIZATION = 8
    CACHE_CONTROL = 16
    RANGE = 32  # also If-Range
    IF_NONE_MATCH = 64
    IF_MODIFIED_SINCE = 128
    PRECONDITION = 256  # If-Match, If-Unmodified-Since
    CDN_LOOP = 512
    USER_AGENT = 1024
    REFERER = 2048
    ACCEPT_ENCODING = 4096
    REQUEST_ID = 8192  # X-Request-Id
    FRAMING = 16384  # Content-Length, Transfer-Encoding, Expect, Upgrade: never recognised

cdef struct Span:
    unsigned int start
    unsigned int length

cdef struct GlanceLimits:
    Py_ssize_t line  # bytes of a line with its CRLF
    Py_ssize_t block  # bytes of the head
    int fields
    int default_port  # of the connection's scheme; no Host names it

cdef struct Glance:
    Py_ssize_t length  # of the head
    bint is_head  # HEAD, else GET
    unsigned int seen
    unsigned int again
    Span target  # path and query
    unsigned int path_length  # of the target up to its `?`
    Span host  # in its one spelling
    Span if_none_match
    Span if_modified_since
    Span user_agent
    Span referer
    Span request_id
    int count
    Span names[64]  # as sent
    Span values[64]  # without the white space around them

cdef void glance_limits(object limits, bytes scheme, GlanceLimits *to)
cdef bint glance(const unsigned char *base, Py_ssize_t end, const GlanceLimits *limits, Glance *to) noexcept nogil
cdef bint named(const unsigned char *name, const char *lower, Py_ssize_t length) noexcept nogil
