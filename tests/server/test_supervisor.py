"""The supervisor's decisions on a kernel made by hand: backoff, the order of a drain, what HUP does."""

from __future__ import annotations

import errno
import os
import signal
from collections import deque
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from flyby.config import Backend, Cache, Config, Server, Timeouts
from flyby.errors import ConfigError, Problem
from flyby.server.children import Backoff, Child
from flyby.server.listeners import open_listeners
from flyby.server.supervisor import Supervisor
from flyby.server.tls import Certificates


def config(drain_s: float = 10.0) -> Config:
    return Config(
        server=Server(workers=2, timeouts=Timeouts(drain_s=drain_s)), backends={"app": Backend(origins=["http://a:1"])}
    )


class FakeKernel:
    """Time that moves only by waiting, and a script: at which second what happens."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.script: deque[tuple[float, Callable[[], int]]] = deque()
        self.dead: deque[tuple[int, int]] = deque()
        self.forked: list[tuple[float, str, int]] = []
        self.killed: list[tuple[float, int, int]] = []
        self.dies_by_term = True
        self.forks_fail = 0  # so many of the next ones

    def now(self) -> float:
        return self.clock

    def wait(self, timeout: float | None) -> int | None:
        if self.dead:
            return signal.SIGCHLD
        until = None if timeout is None else self.clock + timeout
        if self.script and (until is None or self.script[0][0] <= until):
            self.clock, happen = self.script.popleft()
            return happen()
        assert until is not None, "nothing will ever happen"
        self.clock = until
        return None

    def fork(self, name: str, body: Callable[[], int]) -> int:
        if self.forks_fail:
            self.forks_fail -= 1
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        pid = 100 + len(self.forked)
        self.forked.append((round(self.clock, 3), name, pid))
        return pid

    def reap(self) -> tuple[int, int] | None:
        return self.dead.popleft() if self.dead else None

    def kill(self, pid: int, signum: int) -> None:
        self.killed.append((round(self.clock, 3), pid, signum))
        if signum == signal.SIGKILL or (signum == signal.SIGTERM and self.dies_by_term):
            self.dead.append((pid, 0 if signum == signal.SIGTERM else 137))

    def at(self, second: float, signum: int) -> None:
        self.script.append((second, lambda: signum))

    def dies_at(self, second: float, pid: int, code: int) -> None:
        def happen() -> int:
            self.dead.append((pid, code))
            return signal.SIGCHLD

        self.script.append((second, happen))

    def pid_of(self, name: str) -> int:
        return next(pid for _, each, pid in reversed(self.forked) if each == name)


class FakeStore:
    def __init__(self) -> None:
        self.swept: list[int] = []

    def sweep(self, worker: int) -> None:
        self.swept.append(worker)


class FakePulse:
    """Workers that beat as long as they live, unless they are `silent` or have `failed` to start."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.failed: set[int] = set()
        self.silent: dict[int, float] = {}  # since when

    def beats(self, worker: int) -> int:
        if worker in self.failed:
            return 0
        return 1 + int(min(self.kernel.clock, self.silent.get(worker, self.kernel.clock)))

    def clear(self, worker: int) -> None:
        self.silent.pop(worker, None)


class Family:
    def __init__(self, drain_s: float = 10.0, reload: Callable[[], Config] | None = None) -> None:
        self.kernel = FakeKernel()
        self.store = FakeStore()
        self.pulse = FakePulse(self.kernel)
        self.listeners = open_listeners(["127.0.0.1:0"], 2)
        self.children = [
            Child("demo", lambda: 0),
            Child("worker-0", lambda: 0, 0),
            Child("worker-1", lambda: 0, 1),
        ]
        self.supervisor = Supervisor(
            config(drain_s),
            self.children,
            listeners=self.listeners,
            store=self.store,  # type: ignore[arg-type]
            certificates=Certificates([]),
            pulse=self.pulse,  # type: ignore[arg-type]
            reload=reload or (lambda: config(drain_s)),
            kernel=self.kernel,
        )
        self.supervisor.start()

    def run(self) -> int:
        return self.supervisor.run()


def test_backoff_doubles_to_ten_seconds_and_forgets_after_a_life_that_served() -> None:
    backoff = Backoff()
    assert [backoff.after(False) for _ in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert backoff.after(True) == 0.0
    assert backoff.after(False) == 0.1


def births(family: Family) -> list[tuple[float, str]]:
    """When each successor was started."""
    return [(when, name) for when, name, _ in family.kernel.forked[3:]]


def test_a_worker_that_has_served_is_replaced_at_once_however_often_it_dies() -> None:
    family = Family()
    kernel = family.kernel
    for number, pid in enumerate((101, 103, 104, 105, 106)):
        kernel.dies_at(1.0 + number, pid, 137)
    kernel.at(9.0, signal.SIGTERM)
    assert family.run() == 0
    assert births(family) == [(when, "worker-0") for when in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert family.store.swept == [0, 0, 0, 0, 0, 0, 1]  # before each successor, and at the end


def test_two_births_in_one_place_are_a_tenth_of_a_second_apart() -> None:
    family = Family()
    for when, pid in ((0.01, 101), (0.12, 103)):
        family.kernel.dies_at(when, pid, 139)
    family.kernel.at(9.0, signal.SIGTERM)
    family.run()
    assert births(family) == [(0.1, "worker-0"), (0.2, "worker-0")]


def test_a_worker_that_never_serves_is_started_less_and_less_while_another_serves() -> None:
    family = Family()
    family.pulse.failed.add(0)
    kernel = family.kernel
    kernel.dies_at(1.0, 101, 1)  # the next is born at 1.1
    for when, pid in ((2.0, 103), (3.0, 104), (4.0, 105), (5.0, 106)):
        kernel.dies_at(when, pid, 1)
    kernel.at(20.0, signal.SIGTERM)
    family.run()
    assert births(family) == [(when, "worker-0") for when in (1.1, 2.2, 3.4, 4.8, 6.6)]


def test_while_no_worker_runs_the_next_start_is_a_second_away_at_most() -> None:
    family = Family()
    family.pulse.failed.update((0, 1))
    kernel = family.kernel
    # worker-1 fails again and again, and waits for longer and longer: from 9.0 on it would be for 3.2 s
    for when, pid in ((1.0, 102), (2.0, 103), (3.0, 104), (4.0, 105), (5.0, 106), (9.0, 107)):
        kernel.dies_at(when, pid, 1)
    kernel.dies_at(9.5, 101, 1)  # then the last that ran goes, too
    kernel.at(20.0, signal.SIGTERM)
    family.run()
    assert births(family)[-2:] == [(9.6, "worker-0"), (10.5, "worker-1")]


def test_a_fork_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    family = Family()
    family.kernel.forks_fail = 3
    family.kernel.dies_at(5.0, 101, 137)
    family.kernel.at(9.0, signal.SIGTERM)
    assert family.run() == 0
    assert births(family) == [(5.7, "worker-0")]  # after 0.1, 0.2 and 0.4 s
    assert caplog.text.count("worker-0 cannot be started: Resource temporarily unavailable; again in") == 3


def test_all_workers_that_served_may_die_together() -> None:
    family = Family()
    family.kernel.dies_at(5.0, 101, 137)
    family.kernel.dead.append((102, 137))
    family.kernel.clock = 5.0
    family.kernel.at(9.0, signal.SIGTERM)
    family.run()
    assert sorted(births(family)) == [(5.0, "worker-0"), (5.0, "worker-1")]


def test_a_worker_that_stops_beating_is_killed_and_replaced_at_once(caplog: pytest.LogCaptureFixture) -> None:
    family = Family()
    family.pulse.silent[1] = 20.0
    family.kernel.at(60.0, signal.SIGTERM)
    assert family.run() == 0
    [killed] = [(when, pid) for when, pid, signum in family.kernel.killed if signum == signal.SIGKILL]
    assert killed[1] == 102
    assert 29.0 <= killed[0] <= 32.0
    assert births(family) == [(killed[0], "worker-1")]
    assert "worker-1 (pid 102) has not answered for 10 s and is killed" in caplog.text


def test_a_worker_that_does_not_begin_to_serve_is_killed_later() -> None:
    family = Family()
    family.pulse.failed.add(0)
    family.kernel.at(29.0, signal.SIGCHLD)
    family.kernel.at(60.0, signal.SIGTERM)
    family.run()
    [killed] = [(when, pid) for when, pid, signum in family.kernel.killed if signum == signal.SIGKILL]
    assert killed[1] == 101
    assert 30.0 <= killed[0] <= 32.0


def test_after_everything_stood_still_nobody_is_killed() -> None:
    """A machine that is suspended, a container that is paused: the supervisor was as silent as its workers."""
    family = Family()
    family.pulse.silent.update({0: 5.0, 1: 5.0})
    family.kernel.script.append((5.5, lambda: signal.SIGCHLD))

    def thawed() -> int:
        family.pulse.silent.clear()
        return signal.SIGTERM

    def frozen() -> int:
        family.kernel.clock = 3605.0
        return signal.SIGCHLD

    family.kernel.script.append((6.0, frozen))
    family.kernel.script.append((3605.2, thawed))
    family.run()
    assert signal.SIGKILL not in {signum for _, _, signum in family.kernel.killed}


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH, signal.SIGRTMAX])
def test_a_signal_without_a_meaning_is_said_once_and_changes_nothing(
    signum: int, caplog: pytest.LogCaptureFixture
) -> None:
    family = Family()
    family.kernel.at(1.0, signum)
    family.kernel.at(2.0, signum)
    family.kernel.at(3.0, signal.SIGTERM)
    assert family.run() == 0
    assert births(family) == []
    assert [when for when, *_ in family.kernel.killed if when < 3.0] == []
    assert caplog.text.count("means nothing to flyby and is ignored") == 1


def test_the_store_is_swept_before_the_successor_starts() -> None:
    family = Family()
    family.pulse.failed.add(1)
    family.kernel.dies_at(1.0, 102, 137)
    family.kernel.at(1.05, signal.SIGTERM)
    family.run()
    assert family.store.swept[0] == 1
    assert len(family.kernel.forked) == 3  # TERM came first: nobody is started any more


def test_two_that_end_together_are_both_seen() -> None:
    family = Family()
    family.kernel.dies_at(1.0, 101, 1)
    family.kernel.dead.append((102, 1))  # one CHLD for both
    family.kernel.at(9.0, signal.SIGTERM)
    family.run()
    assert sorted(name for _, name, _ in family.kernel.forked[3:]) == ["worker-0", "worker-1"]


def test_a_drain_stops_the_demo_app_last() -> None:
    family = Family()
    family.kernel.at(1.0, signal.SIGTERM)
    assert family.run() == 0
    assert [pid for _, pid, _ in family.kernel.killed] == [101, 102, 100]
    assert {signum for _, _, signum in family.kernel.killed} == {signal.SIGTERM}


def test_a_drain_closes_the_listeners() -> None:
    family = Family()
    family.kernel.at(1.0, signal.SIGQUIT)
    family.run()
    assert all(each.fileno() == -1 for index in range(2) for each in family.listeners.of_worker(index))


def test_who_does_not_end_is_killed() -> None:
    family = Family(drain_s=10.0)
    family.kernel.dies_by_term = False
    family.kernel.at(1.0, signal.SIGTERM)
    assert family.run() == 0
    ends = {pid: when for when, pid, signum in family.kernel.killed if signum == signal.SIGKILL}
    assert ends == {100: 13.0, 101: 13.0, 102: 13.0}


def test_interrupt_twice_kills_at_once_but_term_twice_does_not() -> None:
    for second, when in ((signal.SIGINT, 2.0), (signal.SIGTERM, 13.0)):
        family = Family(drain_s=10.0)
        family.kernel.dies_by_term = False
        family.kernel.at(1.0, signal.SIGINT)
        family.kernel.at(2.0, second)
        family.run()
        assert {at for at, _, signum in family.kernel.killed if signum == signal.SIGKILL} == {when}


def test_78_in_the_first_life_ends_the_whole() -> None:
    family = Family()
    family.pulse.failed.add(0)
    family.kernel.dies_at(0.2, 101, 78)
    assert family.run() == 78
    assert len(family.kernel.forked) == 3


def test_78_in_a_later_life_is_a_death_like_any_other() -> None:
    family = Family()
    family.pulse.failed.add(0)
    family.kernel.dies_at(0.2, 101, 1)
    family.kernel.dies_at(0.5, 103, 78)
    family.kernel.at(9.0, signal.SIGTERM)
    assert family.run() == 0
    assert len(family.kernel.forked) == 5


def test_hup_goes_to_the_workers_only_after_the_configuration_was_found_good(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = deque[Config | ConfigError](
        [ConfigError([Problem("f", 1, 2, "one"), Problem("f", 3, 4, "two", "mend it")]), config(drain_s=3.0)]
    )

    def reload() -> Config:
        answer = answers.popleft()
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    family = Family(reload=reload)
    old = family.supervisor.config
    kernel = family.kernel
    seen: list[tuple[bool, int]] = []

    def look() -> int:
        seen.append((family.supervisor.config is old, len(kernel.killed)))
        return signal.SIGCHLD

    kernel.at(1.0, signal.SIGHUP)
    kernel.script.append((2.0, look))
    kernel.at(3.0, signal.SIGHUP)
    kernel.script.append((4.0, look))
    kernel.at(5.0, signal.SIGTERM)
    family.run()
    assert seen == [(True, 0), (False, 2)]
    assert kernel.killed[:2] == [(3.0, 101, signal.SIGHUP), (3.0, 102, signal.SIGHUP)]
    assert "f:1:2: one" in caplog.text
    assert "f:3:4: two (mend it)" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("a defect"), OSError(24, "Too many open files"), RecursionError()])
def test_whatever_a_reload_raises_the_old_configuration_stays(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def reload() -> Config:
        raise error

    family = Family(reload=reload)
    old = family.supervisor.config
    family.kernel.at(1.0, signal.SIGHUP)
    family.kernel.at(2.0, signal.SIGTERM)
    assert family.run() == 0
    assert family.supervisor.config is old
    assert signal.SIGHUP not in {signum for _, _, signum in family.kernel.killed}
    assert "the reload failed, flyby keeps the old configuration" in caplog.text


def test_pending_changes_are_said_at_each_reload_until_they_are_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    larger = replace(config(), cache=Cache(size="1GiB"))
    answers = deque([larger, larger, config(), replace(larger, server=replace(larger.server, listen=[":1"]))])
    family = Family(reload=lambda: answers.popleft())
    said: list[list[str]] = []

    def look() -> int:
        said.append([each.getMessage().partition(" ")[0] for each in caplog.records if "takes effect" in each.message])
        caplog.clear()
        return signal.SIGCHLD

    for second in range(4):
        family.kernel.at(second + 1.0, signal.SIGHUP)
        family.kernel.script.append((second + 1.5, look))
    family.kernel.at(9.0, signal.SIGTERM)
    with caplog.at_level("INFO"):
        family.run()
    assert said == [["cache.size"], ["cache.size"], [], ["server.listen", "cache.size"]]


def test_a_reload_that_would_leave_nothing_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    family = Family(reload=Config)
    old = family.supervisor.config
    family.kernel.at(1.0, signal.SIGHUP)
    family.kernel.at(2.0, signal.SIGTERM)
    family.run()
    assert family.supervisor.config is old
    assert "no backend and no route would be left" in caplog.text


def test_repr_says_state_and_counts() -> None:
    family = Family()
    assert repr(family.supervisor) == "<Supervisor running, 3 of 3 up>"
    assert repr(family.children[1]) == "<Child worker-0 pid 101, life 1>"
    family.kernel.at(1.0, signal.SIGTERM)
    family.run()
    assert repr(family.supervisor) == "<Supervisor draining, 0 of 3 up>"
