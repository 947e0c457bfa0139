# cython: language_level=3
"""Field lines of one message (RFC 9110 5), in order, with names as they were sent.

`Fields` owns three parallel lists and no rules: whatever came from a peer was checked by the scanner before it is
added here, and whatever goes to a peer is checked by `serialise`. Names are looked up by their lower-case bytes.
A look-up walks the list: messages have a dozen or two fields, the limits cap them at a few hundred, and a list that
is walked cannot be flooded with colliding hashes.
"""

cimport cython


@cython.final
cdef class Fields:
    def __init__(self, lines=()):
        self._names = []
        self._keys = []
        self._values = []
        for name, value in lines:
            self.add(name, value)

    cdef void append(self, bytes name, bytes key, bytes value):
        self._names.append(name)
        self._keys.append(key)
        self._values.append(value)

    cpdef bytes get(self, bytes lname):
        """The value of the first line of that name."""
        cdef Py_ssize_t index
        for index in range(len(self._keys)):
            if <bytes>self._keys[index] == lname:
                return <bytes>self._values[index]
        return None

    cpdef list get_all(self, bytes lname):
        cdef Py_ssize_t index
        cdef list found = []
        for index in range(len(self._keys)):
            if <bytes>self._keys[index] == lname:
                found.append(self._values[index])
        return found

    cpdef bytes combined(self, bytes lname):
        """The combined field value: all lines of that name joined by commas (RFC 9110 5.2)."""
        cdef list found = self.get_all(lname)
        if not found:
            return None
        if len(found) == 1:
            return <bytes>found[0]
        return b", ".join(found)

    cpdef add(self, bytes name, bytes value):
        if name is None or value is None:
            raise TypeError("a field line is two bytes objects")
        self._names.append(name)
        self._keys.append(name.lower())
        self._values.append(value)

    cpdef set(self, bytes name, bytes value):
        """Make this the only line of that name, at the place of the first one or at the end."""
        cdef bytes key
        cdef Py_ssize_t index
        if name is None or value is None:
            raise TypeError("a field line is two bytes objects")
        key = name.lower()
        for index in range(len(self._keys)):
            if <bytes>self._keys[index] == key:
                self._drop(key, index + 1)
                self._names[index] = name
                self._values[index] = value
                return
        self.append(name, key, value)

    cpdef bint remove(self, bytes lname):
        """Drop all lines of that name; tell whether there was one."""
        return self._drop(lname, 0)

    cdef bint _drop(self, bytes lname, Py_ssize_t start) except -1:
        cdef Py_ssize_t index
        cdef Py_ssize_t kept = start
        cdef Py_ssize_t count = len(self._keys)
        for index in range(start, count):
            if <bytes>self._keys[index] == lname:
                continue
            if kept != index:
                self._names[kept] = self._names[index]
                self._keys[kept] = self._keys[index]
                self._values[kept] = self._values[index]
            kept += 1
        del self._names[kept:]
        del self._keys[kept:]
        del self._values[kept:]
        return kept != count

    cpdef Fields copy(self):
        cdef Fields fresh = Fields.__new__(Fields)
        fresh._names = self._names[:]
        fresh._keys = self._keys[:]
        fresh._values = self._values[:]
        return fresh

    cpdef Fields without(self, lnames):
        """A new Fields in one pass, less every line whose lower-case name is in the set `lnames`."""
        cdef Fields fresh = Fields.__new__(Fields)
        cdef Py_ssize_t index
        fresh._names = []
        fresh._keys = []
        fresh._values = []
        for index in range(len(self._keys)):
            if self._keys[index] not in lnames:
                fresh.append(<bytes>self._names[index], <bytes>self._keys[index], <bytes>self._values[index])
        return fresh

    def __contains__(self, bytes lname):
        return lname in self._keys

    def __iter__(self):
        return iter(zip(self._names, self._values))

    def __len__(self):
        return len(self._keys)

    def __eq__(self, other):
        if not isinstance(other, Fields):
            return NotImplemented
        cdef Fields that = <Fields>other
        return self._names == that._names and self._values == that._values

    def __repr__(self):
        return f"Fields({list(self)!r})"
