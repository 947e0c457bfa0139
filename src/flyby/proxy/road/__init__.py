"""Facts and contracts of one request: the client as the proxy sees it, what configurations share, the record."""
