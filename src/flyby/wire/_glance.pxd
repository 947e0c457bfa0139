# cython: language_level=3
"""The map of a glance at a request: offsets into the bytes that were read, and no Python object.

    GET /a?b HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\n\r\n
        └─target─┘             └──host──┘   └name─┘ └value       length: behind the last byte
"""

from flyby.wire._field_line cimport Span, after_value, named

cdef enum:
    MOST_FIELDS = 64  # a head with more of them is not recognised

cdef enum Method:
    GET = 1
    HEAD = 2
    POST = 3
    PUT = 4
    PATCH = 5
    DELETE = 6
    OPTIONS = 7

# How the content is framed, with the numbers of `framing.BodyKind`.
cdef enum Body:
    NO_CONTENT = 0
    COUNTED = 1
    CHUNKED = 2

# The fields that decide something. A bit of `seen` each; of `again` where there are two such lines.
cdef enum:
    OTHER = 0
    HOST = 1
    CONNECTION = 2  # its value was `keep-alive` or `close`; any other is not recognised
    COOKIE = 4
    AUTHORIZATION = 8
    CACHE_CONTROL = 16
    RANGE = 32
    IF_NONE_MATCH = 64
    IF_MODIFIED_SINCE = 128
    PRECONDITION = 256  # If-Match, If-Unmodified-Since
    CDN_LOOP = 512
    USER_AGENT = 1024
    REFERER = 2048
    ACCEPT_ENCODING = 4096
    REQUEST_ID = 8192  # X-Request-Id
    FRAMING = 16384  # Upgrade, and names that imitate a framing field: never recognised
    CONTENT_LENGTH = 32768
    TRANSFER_ENCODING = 65536
    EXPECT = 131072  # its value was `100-continue`; any other is not recognised
    CLOSE = 262144  # a Connection line whose value was `close`
    IF_RANGE = 524288
    CONTENT_TYPE = 1048576
    ORIGIN = 2097152
    FORWARDED_FOR = 4194304  # X-Forwarded-For

cdef struct GlanceLimits:
    Py_ssize_t line  # bytes of the request line with its CRLF
    Py_ssize_t field_line  # of a field line with its CRLF
    Py_ssize_t block  # bytes of the head
    int fields
    int default_port  # of the connection's scheme; no Host names it

cdef struct Glance:
    Py_ssize_t length  # of the head
    int method  # a Method
    bint is_head  # the method is HEAD
    Span verb  # the method as bytes
    int body  # a Body
    long long content  # bytes of it; -1 unless COUNTED
    unsigned int seen
    unsigned int again
    Span target  # path and query
    unsigned int path_length  # of the target up to its `?`
    # The value of the first line of each; of length 0 where there is none.
    Span host  # in its one spelling
    Span if_none_match
    Span if_modified_since
    Span user_agent
    Span referer
    Span request_id
    Span range
    Span if_range
    Span authorization
    Span cookie
    Span cache_control
    Span content_type
    Span origin
    Span forwarded_for
    int count
    Span names[64]  # as sent
    Span values[64]  # without the white space around them

cdef void glance_limits(object limits, bytes scheme, GlanceLimits *to)
cdef bytes cut(bytes data, Span span)
# Plain GET and HEAD without content and on a connection that stays: what needs no more than a look-up.
cdef bint glance(const unsigned char *base, Py_ssize_t end, const GlanceLimits *limits, Glance *to) noexcept nogil
# Every plain request, whatever its method, content and connection.
cdef bint glance_any(const unsigned char *base, Py_ssize_t end, const GlanceLimits *limits, Glance *to) noexcept nogil
