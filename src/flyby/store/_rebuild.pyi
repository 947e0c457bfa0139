"""A shard made anew from its arena; nothing of it is for Python."""
