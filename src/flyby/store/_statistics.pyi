"""What the store counts, read without a lock; used by the store only."""
