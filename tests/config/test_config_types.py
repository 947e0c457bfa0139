"""Every key of every table, given each kind of value that TOML has: it is taken, or told with its place.

The table of cases is made from the model, so a new key is in it on the day it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_origin

import msgspec
import pytest
from msgspec.structs import fields

from flyby.config import Config
from flyby.config.load import read_text
from flyby.config.shape import element_of, struct_of

# What one of each kind looks like in a file.
VALUES = {
    "integer": "7",
    "negative": "-7",
    "huge": "9223372036854775808000",
    "float": "7.5",
    "nan": "nan",
    "boolean": "true",
    "text": '"seven"',
    "no text": '""',
    "date": "2026-01-01",
    "time": "07:07:07",
    "moment": "2026-01-01T07:07:07Z",
    "array": "[]",
    "array of integers": "[7]",
    "array of texts": '["seven"]',
    "array of arrays": "[[7]]",
    "array of tables": "[{ x = 7 }]",
    "table": "{}",
    "table of integers": "{ seven = 7 }",
    "table of booleans": "{ seven = true }",
    "table of texts": '{ seven = "7" }',
    "table of arrays": "{ seven = [7] }",
    "table of tables": "{ seven = { x = 7 } }",
}


def keys(model: type[msgspec.Struct], header: str, path: str = "") -> Iterator[tuple[str, str]]:
    """Each key below a table, as the header that must stand above it and its dotted name."""
    for info in fields(model):
        dotted = f"{path}.{info.name}".removeprefix(".")
        yield header, dotted
        element = element_of(info.type)
        if element is not None:
            below = f"[{dotted}.app]" if get_origin(info.type) is dict else f"[[{dotted}]]"
            yield from keys(element, below)
        elif (struct := struct_of(info.type)) is not None:
            yield from keys(struct, header, dotted)


KEYS = sorted(set(keys(Config, "")))


def test_the_table_of_keys_is_the_whole_model() -> None:
    assert ("[[routes]]", "response_headers.set") in KEYS
    assert ("[backends.app]", "pool.max_waiters") in KEYS
    assert ("[[server.tls]]", "hosts") in KEYS
    assert len(KEYS) > 90


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize(("header", "key"), KEYS, ids=[f"{header}{key}" for header, key in KEYS])
def test_any_value_is_taken_or_told_with_its_place(header: str, key: str, value: str) -> None:
    before = f"{header}\n" if header else ""
    text = f"{before}{key} = {value}\n"
    config, problems = read_text(text, "f")
    assert isinstance(config, Config)
    for problem in problems:
        assert re.match(r"f:[12]:[1-9]\d*: \S", str(problem)), problem
        assert problem.column <= len(text.splitlines()[problem.line - 1])
    wrong = next((each for each in problems if each.message.startswith("expected ")), None)
    if wrong is not None:
        assert " got " in wrong.message or " of at " in wrong.message or " than " in wrong.message, wrong


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("routes = [{ headers = { A = 1, B = true, C = 'c' } }]", [29, 36]),
        ("routes = [{ response_headers = { set = { X-Max = 5 } } }]", [50]),
        ("routes = [{ response_headers = { add = { X-Max = ['5'] } } }]", [50]),
        ("routes = [{ response_headers = { remove = [1, 'A', 2.5] } }]", [44, 52]),
        ("routes = [{ backend = { app = 'most', canary = 5.5 } }]", [31, 48]),
        ("server = { listen = [80, ':81', false] }", [22, 33]),
        ("cache = { targeted = [[], {}] }", [23, 27]),
    ],
)
def test_each_wrong_value_inside_an_array_or_a_table_is_told(text: str, places: list[int]) -> None:
    told = [problem.column for problem in read_text(text, "f")[1] if problem.message.startswith("expected ")]
    assert told == places
