"""The map of what passes a response on."""

from flyby.proxy._answer cimport Answer

cpdef send(exchange, Answer answer, bytes status)
