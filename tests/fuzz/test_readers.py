"""Heads and chunked content through the readers, whole and cut in two at every byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyby.wire.limits import Side
from tests.fuzz import EXAMPLES, TIMEOUT_S
from tests.wire.test_properties import CHUNKED, HEADS, body_verdict, head_verdict, mutated

pytestmark = pytest.mark.timeout(TIMEOUT_S)


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=mutated(HEADS), side=st.sampled_from(["request", "response"]))
def test_no_cut_changes_the_verdict_of_a_head(data: bytes, side: Side) -> None:
    whole = head_verdict([data], side)
    for at in range(1, len(data)):
        assert head_verdict([data[:at], data[at:]], side) == whole, at


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=mutated(CHUNKED))
def test_no_cut_changes_the_verdict_of_chunked_content(data: bytes) -> None:
    whole = body_verdict([data])
    for at in range(1, len(data)):
        assert body_verdict([data[:at], data[at:]]) == whole, at
