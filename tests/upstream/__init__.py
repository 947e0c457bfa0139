"""The way to the origins, on fakes and on real sockets."""
