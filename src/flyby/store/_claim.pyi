"""Nothing of `_claim.pyx` is for Python."""
