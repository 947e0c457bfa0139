"""The store, piece by piece and whole."""
