"""The allocator of one shard's arena; nothing of it is for Python."""
