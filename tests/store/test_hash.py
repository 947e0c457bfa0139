"""The store's hash against the vectors of the SipHash reference (vectors.h, `vectors_sip128`).

The inputs are 00 01 02 … of growing length; `openssl mac -macopt size:16 … SIPHASH` gives the same.
"""

from __future__ import annotations

import pytest

from flyby.store._hash import siphash_128

KEY = bytes(range(16))


@pytest.mark.parametrize(
    ("length", "digest"),
    [
        (0, "a3817f04ba25a8e66df67214c7550293"),
        (1, "da87c1d86b99af44347659119b22fc45"),
        (2, "8177228da4a45dc7fca38bdef60affe4"),
        (7, "a1f1ebbed8dbc153c0b84aa61ff08239"),
        (8, "3b62a9ba6258f5610f83e264f31497b4"),
        (15, "5493e99933b0a8117e08ec0f97cfc3d9"),
    ],
)
def test_the_reference_vectors(length: int, digest: str) -> None:
    assert siphash_128(KEY, bytes(range(length))).hex() == digest


def test_another_key_is_another_hash() -> None:
    assert siphash_128(b"\1" * 16, b"x") != siphash_128(b"\2" * 16, b"x")
    with pytest.raises(ValueError, match="16 bytes"):
        siphash_128(b"short", b"x")
