"""What of a stored body is read for a response: unpacking all of it for one byte would be a stranger's to ask for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flyby.clock import ManualClock
from flyby.policy import Outcome
from flyby.proxy.stored import hit
from flyby.wire import Fields

LENGTH = 1 << 20


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({b"range": b"bytes=5-9"}, [(5, 5)]),
        ({b"range": b"bytes=-1"}, [(LENGTH - 1, 1)]),
        ({b"range": b"bytes=0-0,9-9"}, [(0, 1), (9, 1)]),
        ({b"range": b"bytes=9999999-"}, []),
        ({b"range": b"bytes=5-9", b"if-range": b'"other"'}, [(0, LENGTH)]),
        ({b"range": b"lines=1-2"}, [(0, LENGTH)]),
        ({b"if-none-match": b'"e"'}, []),
        ({}, [(0, LENGTH)]),
    ],
)
def test_what_is_read_of_a_stored_body(fields: dict[bytes, bytes], read: list[tuple[int, ...]]) -> None:
    reads: list[tuple[int, ...]] = []

    def body(*part: int) -> bytes:
        reads.append(part)
        return b"x"

    head = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Type: text/plain\r\n'
    entry: Any = SimpleNamespace(
        head=head, length=LENGTH, status=200, born_ms=0, fresh_ms=0, body=body, key=b"key", flags=0, compressed=False
    )
    exchange: Any = SimpleNamespace(
        context=SimpleNamespace(clock=ManualClock()),
        downstream=SimpleNamespace(send_stored=lambda *given: None),
        request=SimpleNamespace(method=b"GET", fields=Fields(list(fields.items()))),
        note=lambda *given: None,
        status=0,
        own_lines=b"",
    )
    hit.serve(exchange, entry, Outcome.HIT)
    assert reads == read
