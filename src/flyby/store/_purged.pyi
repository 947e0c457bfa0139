"""What was purged, and when; all of it is for Cython."""
