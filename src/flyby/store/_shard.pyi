"""One shard; nothing of it is for Python."""
