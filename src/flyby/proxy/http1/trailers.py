"""Whether a client takes trailer fields."""

from __future__ import annotations

from flyby.wire import Fields


def wants_trailers(fields: Fields) -> bool:
    """Whether a request says that its sender takes trailer fields (RFC 9110 10.1.4)."""
    value = fields.combined(b"te")
    return value is not None and b"trailers" in [part.strip(b" \t").lower() for part in value.split(b",")]
