"""Plays of the edge's end of the tunnel: a scripted agent on real sockets against a real `Edge`."""
