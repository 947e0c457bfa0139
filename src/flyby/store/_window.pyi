"""A fetch that outgrew the store: its readers go on in a window; nothing of it is for Python."""
