"""The system's clock when somebody sets it back."""

from __future__ import annotations

import pytest

from flyby import clock


def test_the_time_of_ages_goes_on_when_the_wall_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, uptime = 1_800_000_000_000, 5_000
    monkeypatch.setattr(clock, "_AHEAD", [0])
    monkeypatch.setattr(clock.time, "time_ns", lambda: shown * 1_000_000)
    monkeypatch.setattr(clock.time, "clock_gettime_ns", lambda number: uptime * 1_000_000)
    system = clock.SystemClock()
    assert (system.wall_ms(), system.date_ms()) == (shown, shown)
    before = shown
    for stepped, passed, told in [
        (20, 10, 30),  # forwards, by a little: the wall clock counts
        (-15, 10, -5),  # what two clocks that nobody sets differ by is no step
        (-3_600_000, 1_000, None),
        (0, 60_000, None),
    ]:
        shown, uptime = shown + stepped + (passed if told is None else told - stepped), uptime + passed
        assert system.date_ms() == shown
        if told is None:
            assert system.wall_ms() - before in range(passed, passed + 50)
        else:
            assert system.wall_ms() == shown
        before = system.wall_ms()
    # Once it is ahead again, it counts again.
    shown += 7_200_000
    assert system.wall_ms() == shown
