"""Embedding: the example of the documentation, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from flyby import Edge
from flyby.server.edge import EdgeStatistics

DOCUMENT = Path(__file__).parents[2] / "docs" / "embedding.md"


def test_the_example_does_what_it_says() -> None:
    example = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)[0]
    exec(compile(example, str(DOCUMENT), "exec"), {})  # its assertions are the test


def test_what_is_told_of_the_edge_is_there() -> None:
    told = set(re.findall(r"`(?:await )?edge\.(\w+)", DOCUMENT.read_text()))
    assert told - {"addresses"} <= {*dir(Edge)}
    public = {name for name in vars(Edge) if not name.startswith("_")}
    assert public - told == {"state"}
    assert "requests" in EdgeStatistics.__dataclass_fields__
