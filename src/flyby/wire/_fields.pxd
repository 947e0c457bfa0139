"""The map of `Fields`: three parallel lists, one entry a field line, in the order of the message."""


cdef class Fields:
    cdef list _names   # bytes: field names as they were sent
    cdef list _keys    # bytes: the same names in lower case, which is what a look-up compares
    cdef list _values  # bytes: field values without the white space around them

    cdef void append(self, bytes name, bytes key, bytes value)
    cdef bint _drop(self, bytes lname, Py_ssize_t start) except -1
    cpdef bytes get(self, bytes lname)
    cpdef list get_all(self, bytes lname)
    cpdef bytes combined(self, bytes lname)
    cpdef add(self, bytes name, bytes value)
    cpdef set(self, bytes name, bytes value)
    cpdef bint remove(self, bytes lname)
    cpdef Fields copy(self)
    cpdef Fields without(self, lnames)
