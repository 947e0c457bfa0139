"""The table of fetches under way; nothing of it is for Python."""
