"""The bounds on what must be read; in a build that traces lines, see `tests/reading`."""

from __future__ import annotations

import pytest

from tests.reading.counting import built_for_it, counted
from tests.reading.plays import BOUNDS, HELD, play

traced = pytest.mark.skipif(not built_for_it(), reason="this build tells of no lines")


@traced
@pytest.mark.parametrize("what", BOUNDS)
def test_a_request_can_be_read(what: str) -> None:
    bound = BOUNDS[what]
    files = play(what).files(bound.leave_out)
    assert len(files) >= 3, "next to nothing was counted"
    if HELD:
        assert len(files) <= bound.files, files
        assert sum(files.values()) <= bound.lines, files


def test_only_the_package_is_counted() -> None:
    from flyby.wire.limits import STANDARD_LIMITS, StandardLimits  # a module in Python

    with counted() as seen:
        repr(StandardLimits())
        assert STANDARD_LIMITS is not None
    assert all(name.startswith("flyby/") for name in seen.lines)


def test_what_is_left_out_is_not_counted() -> None:
    from tests.reading.counting import Seen

    seen = Seen({"flyby/store/partials.py": {1}, "flyby/clock.py": {1, 2}})
    assert [*seen.files("flyby/store/")] == ["flyby/clock.py"]
    assert [*seen.files()] == ["flyby/clock.py", "flyby/store/partials.py"]
    assert seen.files()["flyby/clock.py"] > 2
