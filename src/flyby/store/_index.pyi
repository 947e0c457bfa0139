"""The index of one shard; nothing of it is for Python."""
