"""The steps of a request, in their order."""
