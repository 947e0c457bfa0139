"""Bodies as lz4, in pieces; nothing of it is for Python."""
