"""Where keys and values stand: each way that TOML has of writing one, and every key path that tomllib decodes."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.config import Backend, Config
from flyby.config.positions import Path, Positions

TEXT = '''\
# a comment with [brackets] = "and quotes"
top = 1
[server] # after a header
listen = [ "a", # inside = an array
  'b',
]
"quoted key" = """
[not.a.header] = 1
"""
limits.fields = 5
[backends."my app"]
origins=["x"]
pool = { wait_s = 1, idle_s = { deep = [ {n = 1}, {n = 2} ] } }
[[routes]]
path = '\\'
[routes.cache]
ttl_s = 1979-05-27 07:32:00
[[routes]]
host = "h"
  [[routes.inner]]
  x = @'quote'@
  [[routes.inner]]
  x = """"quote"""""
last = true
'''.replace("@", "'''")


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("top",), (2, 1), (2, 7)),
        (("server",), (3, 2), (3, 2)),
        (("server", "listen"), (4, 1), (4, 10)),
        (("server", "listen", 0), (4, 1), (4, 12)),
        (("server", "listen", 1), (4, 1), (5, 3)),
        (("server", "quoted key"), (7, 1), (7, 16)),
        (("server", "limits"), (10, 1), (10, 1)),
        (("server", "limits", "fields"), (10, 8), (10, 17)),
        (("backends", "my app"), (11, 11), (11, 11)),
        (("backends", "my app", "origins", 0), (12, 1), (12, 10)),
        (("backends", "my app", "pool", "wait_s"), (13, 10), (13, 19)),
        (("backends", "my app", "pool", "idle_s", "deep", 1, "n"), (13, 52), (13, 56)),
        (("routes", 0), (14, 1), (14, 1)),
        (("routes", 0, "path"), (15, 1), (15, 8)),
        (("routes", 0, "cache", "ttl_s"), (17, 1), (17, 9)),
        (("routes", 1), (18, 1), (18, 1)),
        (("routes", 1, "host"), (19, 1), (19, 8)),
        (("routes", 1, "inner", 0, "x"), (21, 3), (21, 7)),
        (("routes", 1, "inner", 1, "x"), (23, 3), (23, 7)),
        (("routes", 1, "inner", 1, "last"), (24, 1), (24, 8)),
        (("routes", 1, "inner", 1, "missing", "deeper"), (22, 3), (22, 3)),
        (("nowhere",), (1, 1), (1, 1)),
    ],
)
def test_places(path: Path, key: tuple[int, int], value: tuple[int, int]) -> None:
    positions = Positions(TEXT)
    assert (positions.key(path), positions.value(path)) == (key, value)


def _leaves(data: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    if isinstance(data, dict):
        return [leaf for key, each in data.items() for leaf in _leaves(each, (*path, key))]
    if isinstance(data, list):
        return [leaf for index, each in enumerate(data) for leaf in _leaves(each, (*path, index))]
    return [(path, data)]


def test_each_value_of_the_text_is_found_where_it_stands() -> None:
    positions = Positions(TEXT)
    lines = TEXT.split("\n")
    for path, value in _leaves(tomllib.loads(TEXT)):
        line, column = positions.value(path)
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        # What stands there begins with the literal of that value.
        ends = [end for end in range(1, len(rest) + 1) if _reads_as(rest[:end], value)]
        assert ends, (path, rest[:20])


def _reads_as(literal: str, value: Any) -> bool:
    try:
        return bool(tomllib.loads(f"key = {literal}")["key"] == value)
    except tomllib.TOMLDecodeError:
        return False


@given(st.text(min_size=1), st.lists(st.text(), min_size=1, max_size=4))
def test_any_text_that_is_written_can_be_scanned(name: str, origins: list[str]) -> None:
    text = Config(backends={name: Backend(origins=origins)}).to_toml()
    places = [Positions(text).value(("backends", name, "origins", index)) for index in range(len(origins))]
    assert places == sorted(set(places))
    assert [line for line, _ in places] == [text.count("\n", 0, text.index("origins =")) + 1] * len(origins)
