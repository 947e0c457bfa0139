"""The map of a table of field names."""

cdef enum:
    SLOTS = 256  # a power of two, at least twice as many as there are names


cdef class NameTable:
    cdef list _kept                       # the names, so that their bytes stay
    cdef const unsigned char *_names[256]
    cdef int _lengths[256]                # 0: nothing there
    cdef unsigned int _told[256]

    cdef unsigned int find(self, const unsigned char *name, Py_ssize_t length) noexcept nogil
