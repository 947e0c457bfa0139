"""Random text in the 62 letters and digits that need no quoting in a shell, a URL or a header field."""

from __future__ import annotations

import secrets

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_text(length: int) -> str:
    """`length` characters, each from the system's generator: 5.95 bits apiece."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
