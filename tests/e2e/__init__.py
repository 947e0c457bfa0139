"""Plays: real sockets, a scripted origin, a client that says what it is told."""
