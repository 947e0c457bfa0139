"""Client connections of HTTP/1."""
