"""Counters in shared memory: the page's layout and words, the buckets of its histograms, and how pages add up."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.config import Redirect, Route
from flyby.errors import StoreError
from flyby.metrics import NO_ROUTE, Latency, Metrics, MetricsSnapshot, Pages, PagesView, route_name, total
from flyby.metrics._page import NAMED_ROUTES, SIZE, STRIDE, bucket, snapshot_of
from flyby.metrics.pages import FIRST, HEADER, MAGIC, VERSION
from flyby.metrics.snapshot import BUCKETS, STEPS, lowest_us
from flyby.policy import Outcome, Reason

# ---- counting --------------------------------------------------------------------------------------------------------


def test_a_request_is_counted_in_each_table_once() -> None:
    metrics = Metrics()
    shop = metrics.route("shop")
    metrics.count("hit", "", shop, 200, 1000, 0.000_010, stored=True)
    metrics.count("hit", "", shop, 304, 200, 0.000_012, stored=True)
    metrics.count("miss", "private", NO_ROUTE, 502, 30, 0.5, origin_s=0.25)
    metrics.refuse("bad-chunk")
    found = metrics.snapshot()
    assert found.statuses == {"hit": (0, 0, 1, 1, 0, 0), "miss": (0, 0, 0, 0, 0, 1)}
    assert (found.requests, found.outcomes) == (3, {"hit": 2, "miss": 1})
    assert found.reasons == {"private": 1}
    assert found.sent == {"hit": 1200, "miss": 30}
    assert found.routes == {"shop": {"hit": 2}, "other": {"miss": 1}}
    assert (found.refused, found.refusals) == (1, {"bad-chunk": 1})
    assert (found.hits.count, found.hits.sum_us) == (2, 22)
    assert (found.others.count, found.others.sum_us) == (1, 500_000)
    assert (found.origins.count, found.origins.sum_us) == (1, 250_000)


def test_what_is_not_known_is_not_counted() -> None:
    metrics = Metrics()
    metrics.count("pipe", "upgrade", status=101)
    found = metrics.snapshot()
    assert (found.requests, found.sent) == (1, {})
    assert (found.hits.count, found.others.count, found.origins.count) == (0, 0, 0)


@pytest.mark.parametrize(
    ("status", "first"), [(0, 0), (-1, 0), (99, 0), (100, 1), (200, 2), (399, 3), (499, 4), (599, 5), (600, 0)]
)
def test_a_status_counts_for_its_class(status: int, first: int) -> None:
    metrics = Metrics()
    metrics.count("miss", "", status=status)
    assert metrics.snapshot().statuses["miss"].index(1) == first


@pytest.mark.parametrize("reason", ["", "no-store"])
@pytest.mark.parametrize("origin_us", [-1, 0, 4000])
def test_who_counts_often_counts_the_same(reason: str, origin_us: int) -> None:
    one, other = Metrics(), Metrics()
    counter = one.counter("pass", reason)
    for row in (one.route("shop"), NO_ROUTE, NO_ROUTE + 1, 0xFFFFFFFF):
        counter.add(row, 200, 1000, 5000, origin_us)
    other.route("shop")
    for row in (0, NO_ROUTE, NO_ROUTE, NO_ROUTE):
        other.count("pass", reason, row, 200, 1000, 0.005, origin_s=origin_us / 1e6)
    assert one.snapshot() == other.snapshot()


@pytest.mark.parametrize("row", [-1, NO_ROUTE + 1, 1 << 30])
def test_a_row_that_no_route_has_is_that_of_no_route(row: int) -> None:
    metrics = Metrics()
    metrics.count("miss", "", row)
    assert metrics.snapshot().routes == {"other": {"miss": 1}}


def test_connections_are_opened_and_closed() -> None:
    metrics = Metrics()
    metrics.opened()
    metrics.opened()
    metrics.closed()
    found = metrics.snapshot()
    assert (found.connections_total, found.connections_open) == (2, 1)


def test_a_snapshot_does_not_change() -> None:
    metrics = Metrics()
    metrics.count("hit", "")
    before = metrics.snapshot()
    metrics.count("hit", "")
    assert before.outcomes == {"hit": 1}


# ---- words and rows --------------------------------------------------------------------------------------------------


def test_every_outcome_and_reason_of_the_policy_has_a_row() -> None:
    metrics = Metrics()
    for outcome in Outcome:
        metrics.count(outcome.value, "")
    for reason in Reason:
        metrics.count("miss", reason.value)
    found = metrics.snapshot()
    assert set(found.outcomes) == {outcome.value for outcome in Outcome}
    assert set(found.reasons) == {reason.value for reason in Reason}


def test_routes_beyond_the_page_share_the_last_row() -> None:
    metrics = Metrics()
    rows = [metrics.route(f"route {number}") for number in range(NAMED_ROUTES + 3)]
    assert rows == [*range(NAMED_ROUTES), *[NO_ROUTE] * 3]
    for row in rows:
        metrics.count("hit", "", row)
    found = metrics.snapshot()
    assert found.routes["other"] == {"hit": 3}
    assert len(found.routes) == NAMED_ROUTES + 1


@pytest.mark.parametrize("name", ["", "é" * 100, "a" * 63, "a" * 64, "\udcff", "x" * 31 + "é"])
def test_any_name_has_a_row_and_keeps_it(name: str) -> None:
    memory = bytearray(STRIDE)
    row = Metrics(memory).route(name)
    again = Metrics(memory)
    assert again.route("another") == row + 1
    assert again.route(name) == row
    again.count("hit", "", row)
    [shown] = again.snapshot().routes
    assert shown.encode()[:60] == (name.encode("utf-8", "replace") or b"-")[:60].rstrip(b"\xc3")


def test_the_next_process_goes_on_in_the_page_of_the_last() -> None:
    memory = bytearray(STRIDE)
    first = Metrics(memory)
    first.opened()
    for reason in ("b", "a", "c"):
        first.count("miss", reason)
        first.refuse(reason)
    second = Metrics(memory)
    for reason in ("c", "b", "a"):
        second.count("miss", reason)
        second.refuse(reason)
    found = second.snapshot()
    assert found.reasons == {"a": 2, "b": 2, "c": 2}
    assert found.refusals == found.reasons
    assert (found.connections_total, found.connections_open) == (1, 0)


def test_a_page_is_not_made_of_less_memory() -> None:
    with pytest.raises(ValueError, match=f"{SIZE} bytes"):
        Metrics(bytearray(SIZE - 1))
    with pytest.raises(ValueError, match=f"{SIZE} bytes"):
        snapshot_of(bytes(SIZE - 1))


@pytest.mark.parametrize("page", [b"\xff" * SIZE, b"\x1b" * SIZE, random.Random(1).randbytes(SIZE)])
def test_any_bytes_can_be_read_and_shown(page: bytes) -> None:
    """Root looks at pages that others have made."""
    found = snapshot_of(page)
    assert total([found, found]).requests == 2 * found.requests > 0
    words = [*found.outcomes, *found.reasons, *found.refusals, *found.routes]
    assert "".join(words).isprintable()


# ---- buckets ---------------------------------------------------------------------------------------------------------


def model(us: int) -> int:
    """Five equal steps from each power of two to the next, in whole numbers."""
    us = max(us, 1)
    octave = us.bit_length() - 1
    return min(octave * 5 + (us - (1 << octave)) * 5 // (1 << octave), 150)


@given(st.one_of(st.integers(0, 1 << 12), st.integers(0, 2_000_000_000), st.integers(0, (1 << 64) - 1)))
def test_a_duration_is_counted_in_its_bucket(us: int) -> None:
    assert bucket(us) == model(us)


@pytest.mark.parametrize("octave", range(31))
def test_around_each_power_of_two(octave: int) -> None:
    for us in (2**octave - 1, 2**octave, 2**octave + 1):
        assert bucket(us) == model(us)


def test_each_bucket_begins_where_it_is_said_to() -> None:
    lowest = [lowest_us(number) for number in range(BUCKETS)]
    assert lowest == sorted(lowest)
    assert lowest[::STEPS] == [2**octave for octave in range(31)]
    for number, (begin, end) in enumerate(pairwise(lowest)):
        if begin < end:  # below 8 µs some hold no whole microsecond
            assert {bucket(begin), bucket(end - 1)} == {number}
    assert lowest[-2] < 1_000_000_000 < lowest[-1]


@given(st.lists(st.integers(0, 2_000_000_000), min_size=1), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_the_time_within_which_a_share_was_done(durations: list[int], share: float) -> None:
    metrics = Metrics()
    for us in durations:
        metrics.count("miss", "", seconds=us / 1e6 + 1e-7)
    found = metrics.snapshot().others
    assert (found.count, found.sum_us) == (len(durations), sum(durations))
    said = found.within_us(share)
    assert said is not None
    done = sorted(durations)
    exact = done[max(-(-len(done) * round(share * 100) // 100), 1) - 1]
    if exact < 1 << 30:
        assert exact <= said <= max(exact * 1.2 + 1, 2)
    else:
        assert said == 1 << 30


def test_nothing_was_done_within_no_time() -> None:
    assert Latency().within_us(0.5) is None


# ---- several pages ---------------------------------------------------------------------------------------------------

OUTCOMES = st.sampled_from([outcome.value for outcome in Outcome])
REASONS = st.sampled_from(["", *(reason.value for reason in Reason)])
REQUESTS = st.lists(st.tuples(OUTCOMES, REASONS, st.sampled_from([200, 304, 404, 503]), st.integers(0, 1000)))


@given(st.lists(REQUESTS, max_size=4))
def test_workers_add_up(workers: list[list[tuple[str, str, int, int]]]) -> None:
    pages = [Metrics() for _ in workers]
    for metrics, requests in zip(pages, workers, strict=True):
        for outcome, reason, status, sent in requests:
            metrics.count(outcome, reason, metrics.route(f"to {outcome}"), status, sent, sent / 1000)
            metrics.refuse(reason)
    found = total(metrics.snapshot() for metrics in pages)
    every = [request for requests in workers for request in requests]
    assert found.outcomes == Counter(outcome for outcome, *_ in every)
    assert found.reasons == Counter(reason for _, reason, *_ in every if reason)
    assert found.requests == found.refused == found.others.count == len(every)
    assert sum(found.sent.values()) == sum(sent for *_, sent in every)
    assert found.routes == {f"to {outcome}": {outcome: count} for outcome, count in found.outcomes.items()}
    assert sum(counts[5] for counts in found.statuses.values()) == sum(status == 503 for _, _, status, _ in every)


def test_what_came_between_two_looks() -> None:
    metrics = Metrics()
    metrics.count("miss", "", seconds=0.001)
    before = metrics.snapshot().others
    metrics.count("miss", "", seconds=0.1)
    between = metrics.snapshot().others - before
    assert (between.count, between.sum_us) == (1, 100_000)
    assert between + before == metrics.snapshot().others


# ---- shared memory ---------------------------------------------------------------------------------------------------


def own_pages(workers: int) -> list[list[MetricsSnapshot]]:
    """What is seen of this process's mappings that have so many pages."""
    with PagesView(os.getpid()) as view:
        kept = [found for found in view._found if found[1] == workers]
        return [[snapshot_of(os.pread(fd, STRIDE, FIRST + n * STRIDE)) for n in range(count)] for fd, count in kept]


def test_what_a_process_counts_is_seen_from_outside_though_it_is_killed() -> None:
    pages = Pages(7)
    pid = os.fork()
    if not pid:
        metrics = pages.of(3)
        for _ in range(1000):
            metrics.count("hit", "", metrics.route("shop"), 200, 10)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    pages.of(3).count("miss", "")
    [found] = own_pages(7)
    assert [each.outcomes for each in found] == [{}, {}, {}, {"hit": 1000, "miss": 1}, {}, {}, {}]
    assert found[3].routes["shop"] == {"hit": 1000}


def test_the_mapping_lives_as_long_as_somebody_counts_in_it() -> None:
    metrics = Pages(9).of(8)
    metrics.count("hit", "")
    assert [found[8].requests for found in own_pages(9)] == [1]
    del metrics
    assert own_pages(9) == []


def test_a_mapping_keeps_its_size() -> None:
    pages = Pages(11)
    size = FIRST + 11 * STRIDE
    files = [each for each in Path("/proc/self/fd").iterdir() if each.is_file()]
    [descriptor] = [each for each in files if each.stat().st_size == size]
    with open(descriptor, "r+b") as file:
        assert fcntl.fcntl(file, fcntl.F_GET_SEALS) & (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        with pytest.raises(PermissionError):
            file.truncate(0)
    assert pages.workers == 11


@pytest.mark.parametrize(
    "header",
    [
        b"",
        HEADER.pack(MAGIC, VERSION, 1, SIZE, STRIDE)[:-1],
        HEADER.pack(b"notcount", VERSION, 1, SIZE, STRIDE),
        HEADER.pack(MAGIC, VERSION + 1, 1, SIZE, STRIDE),
        HEADER.pack(MAGIC, VERSION, 1, SIZE - 8, STRIDE),
        HEADER.pack(MAGIC, VERSION, 1, SIZE, STRIDE * 2),
        HEADER.pack(MAGIC, VERSION, 0xFFFFFFFF, SIZE, STRIDE),
        HEADER.pack(MAGIC, VERSION, 0, SIZE, STRIDE),
        HEADER.pack(MAGIC, VERSION, 1, SIZE, STRIDE),  # and nothing behind it
    ],
)
def test_what_is_no_page_is_not_read(header: bytes, tmp_path: Path) -> None:
    file = tmp_path / "memory"
    file.write_bytes(header)
    fds = tmp_path / "4711" / "fd"
    fds.mkdir(parents=True)
    (fds / "3").symlink_to("/memfd:flyby-metrics (deleted)")
    with PagesView(4711, tmp_path) as view:  # a link that leads nowhere
        assert view.snapshots() == []
    real = os.open
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "open", lambda path, flags: real(file, flags))
        before = len(os.listdir("/proc/self/fd"))
        with PagesView(4711, tmp_path) as view:
            assert view.snapshots() == []
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_is_not_there_has_no_pages() -> None:
    with PagesView(1 << 30) as view:
        assert view.snapshots() == []


def test_no_memory_is_an_error_of_the_stores_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="counters: No space left"):
        Pages()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_header_says_how_the_pages_lie() -> None:
    pages = Pages(2)
    assert struct.unpack("=8sIIII", bytes(pages._memory[:24])) == (MAGIC, VERSION, 2, SIZE, STRIDE)
    assert SIZE <= STRIDE
    assert STRIDE % 4096 == SIZE % 8 == 0


# ---- the names of routes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "name"),
    [
        (Route(backend="app"), "* app"),
        (Route(host="shop.test", path="/api", backend="app"), "shop.test/api app"),
        (Route(scheme="http", redirect=Redirect(to="https://x.test/")), "http://* redirect"),
        (Route(path="/a", headers={"X-Secret": "hush"}, backend="app"), "*/a X-Secret app"),
    ],
)
def test_a_route_is_named_by_what_it_matches(route: Route, name: str) -> None:
    assert route_name(route) == name
