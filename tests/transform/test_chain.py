"""A chain is its stages in a row, and holds them to the length that was announced."""

from __future__ import annotations

import pytest

from flyby.proxy.transform.chain import BrokenPromise, Chain
from flyby.wire import Fields
from tests.transform.doubles import Upper


def through(chain: Chain, *parts: bytes) -> bytes:
    out = [bytes(view) for part in parts for view in chain.data(memoryview(part))]
    return b"".join(out + [bytes(view) for view in chain.end()])


@pytest.mark.parametrize(
    ("suffixes", "expected"),
    [((), b"one two"), ((b"",), b"ONE TWO"), ((b"!",), b"ONE TWO!"), ((b" a", b" b"), b"ONE TWO A b")],
)
def test_stages_are_passed_in_their_order(suffixes: tuple[bytes, ...], expected: bytes) -> None:
    stages = [Upper(suffix) for suffix in suffixes]
    chain = Chain(stages)
    assert chain.head(Fields(), 7) == len(expected)
    assert through(chain, b"one", b"", b" two") == expected
    assert [stage.calls[-1] for stage in stages] == ["end"] * len(stages)


def test_a_stage_that_knows_no_length_makes_the_chains_unknown() -> None:
    chain = Chain([Upper(b"!", announces=False), Upper(b"?")])
    assert chain.head(Fields(), 1) == -1
    assert through(chain, b"a") == b"A!?"


@pytest.mark.parametrize(("length", "parts"), [(3, (b"ab",)), (3, (b"ab", b"cd")), (0, (b"a",)), (1, ())])
def test_a_broken_promise_of_length_is_an_error(length: int, parts: tuple[bytes, ...]) -> None:
    chain = Chain([Upper()])
    chain.head(Fields(), length)
    with pytest.raises(BrokenPromise):
        through(chain, *parts)


def test_all_stages_are_told_of_a_failure() -> None:
    stages = [Upper(), Upper()]
    Chain(stages).fail()
    assert [stage.calls for stage in stages] == [["fail"], ["fail"]]
