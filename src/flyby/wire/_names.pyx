# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""What is to be done with a field, by its name, in any case of its letters: a table that is asked without an object.

Open addressing: the place of a name is made of its length and three of its bytes, and the next free one where that is
taken. The table is at most half full, so a walk ends. A name in it is a token of lower-case letters, digits and
hyphens: bytes that have the bit 0x20, as `named` wants them.
"""

import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from flyby.wire._field_line cimport named

cdef object NAME = re.compile(rb"[a-z0-9-]{1,64}\Z")


cdef inline unsigned int place(const unsigned char *name, Py_ssize_t length) noexcept nogil:
    cdef unsigned int mixed = (name[0] | 0x20) * 7 + (name[length >> 1] | 0x20) * 31 + (name[length - 1] | 0x20) * 97
    return (mixed + <unsigned int>length * 13) & (SLOTS - 1)


def fit(names):
    """Whether a table takes these names."""
    return len(names) * 2 <= SLOTS and all(NAME.match(name) is not None for name in names)


cdef class NameTable:
    def __init__(self, told):
        """`told` says what is to be told of each lower-case name: a number that is not 0."""
        cdef const unsigned char *text
        cdef unsigned int at
        if not fit(told) or not all(told.values()):
            raise ValueError("these names are not for the table, or too many")
        self._kept = []
        for name, what in told.items():
            text = <const unsigned char *>PyBytes_AS_STRING(name)
            at = place(text, len(name))
            while self._lengths[at]:
                at = (at + 1) & (SLOTS - 1)
            self._kept.append(name)
            self._names[at] = text
            self._lengths[at] = <int>len(name)
            self._told[at] = what

    cdef unsigned int find(self, const unsigned char *name, Py_ssize_t length) noexcept nogil:
        """What is told of the name, 0 when it is not in the table; it holds at least one byte."""
        cdef unsigned int at = place(name, length)
        while self._lengths[at]:
            if self._lengths[at] == length and named(name, <const char *>self._names[at], length):
                return self._told[at]
            at = (at + 1) & (SLOTS - 1)
        return 0

    def of(self, bytes name not None):
        """`find`, for the tests."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(name)
        return self.find(<const unsigned char *>PyBytes_AS_STRING(name), length) if length else 0
