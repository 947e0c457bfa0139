"""The index of a shard's tags; all of it is for Cython."""
