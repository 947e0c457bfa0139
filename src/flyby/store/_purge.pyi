"""The walk of a purge through the lists of tags; all of it is for Cython."""
