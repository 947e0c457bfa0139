"""Functions that turn a request target and a Host into one authority and one path."""

cpdef bytes authority(bytes value, bytes scheme)
cdef tuple resolve(bytes method, bytes target, bytes scheme)
