"""The queues of one shard; nothing of them is for Python."""
