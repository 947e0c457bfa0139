"""Room for a new block; nothing of it is for Python."""
