"""Partials in a running edge: the example of the documentation, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from flyby.config import Cache, Server

DOCUMENT = Path(__file__).parents[2] / "docs" / "partials.md"


def test_the_example_does_what_it_says() -> None:
    [example] = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)
    # Its assertions are the test; the address to listen on and the size are what a test may have.
    example = example.replace("config = Config(", "config = Config(server=SERVER, cache=CACHE, ")
    names = {"SERVER": Server(listen=["127.0.0.1:0"]), "CACHE": Cache(size="4MiB")}
    exec(compile(example, str(DOCUMENT), "exec"), names)
