"""The map of `FieldSection`, the scanner of field lines that heads and trailers share."""

from flyby.wire._fields cimport Fields

cdef enum SectionState:
    LINE_START = 0   # at the first byte of a line
    NAME = 1         # within a field name
    GAP = 7          # white space between a field name and its colon (responses)
    PADDING = 2      # white space between the colon and the value
    CONTENT = 3      # within a field value
    LINE_FEED = 4    # behind the CR of a field line
    LAST_FEED = 5    # behind the CR of the empty line
    DONE = 6


cdef bint imitates_framing(bytes key)


cdef class FieldSection:
    cdef Fields fields             # the lines read so far
    cdef SectionState state
    cdef bint strict               # a request: nothing is corrected
    cdef bint frames               # a head, whose fields may frame the message; those of trailers are dropped later
    cdef bint corrected            # a line holds what `agreement` lists and must be shown to llhttp without it
    cdef bint odd                  # the current line does
    cdef int fault                 # status for a malformed line
    cdef int excess                # status for too much of it
    cdef Py_ssize_t line_limit     # bytes of one line, without CRLF
    cdef Py_ssize_t block_limit    # bytes of the section, with the empty line
    cdef Py_ssize_t count_limit    # lines
    cdef Py_ssize_t block_stop     # offsets into the buffer: the section ends before this one;
    cdef Py_ssize_t line           # where the current line begins,
    cdef Py_ssize_t name_end       # its colon,
    cdef Py_ssize_t value_start    # its value's first byte
    cdef Py_ssize_t value_end      # and the byte behind its last

    cdef void begin(self, Py_ssize_t offset)
    cdef void move(self, Py_ssize_t offset)
    cdef Py_ssize_t scan(self, const unsigned char *base, Py_ssize_t position, Py_ssize_t end) except -1
    cdef int _commit(self, const unsigned char *base) except -1
    cdef int _odd_line(self, bytes key) except -1
    cdef object malformed(self, str reason, str detail)
