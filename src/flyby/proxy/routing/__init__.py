"""Where a request goes: routes, keys, and what the origin is told."""
