"""The steps of a request, and the points between them."""
