"""`flyby stat`: which cache it finds, what it tells, and that nobody at work in the cache notices."""

from __future__ import annotations

import gc
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyby.cli import main
from flyby.cli.figures import figures
from flyby.cli.running import described
from flyby.cli.table import Look, table
from flyby.errors import StoreError
from flyby.metrics import Metrics, MetricsSnapshot, Pages
from flyby.store import Store, StoreView
from flyby.store.cache_file import OPEN, RECORD_AT, Record, digest_of
from flyby.store.cache_file import RECORD as RECORD_LAYOUT
from flyby.store.running import RunningStore, running_stores
from tests.edge import PACKAGES

MIB = 1 << 20
RECORD = Record(OPEN, 4711, "boot", b"", b"", 1_700_000_000_000, 0)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["stat", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    made = Store.create(4 * MIB, path=path, workers=2)
    for number in range(50):
        made.put(b"key %d" % number, b"head", b"text " * 500, 200, 0, 1, 2, 3, 4)
    for number in range(60):
        made.lookup(b"key %d" % number)
    yield made
    made.close()


def test_one_table(store: Store, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--path", path) == 0
    said = capsys.readouterr().out
    assert f"cache in {path}, of process {os.getpid()} since 20" in said
    assert "objects   50, bodies of 122.1 KiB held in " in said
    assert "50 as lz4" in said
    assert re.search(r"^stored +50$", said, re.MULTILINE)
    assert "evicted" not in said  # nothing was: zero has no line
    assert "a second" not in said


def test_json_tells_what_the_store_counts_but_for_lookups(
    store: Store, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json", "--path", path) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"name": path, "process": os.getpid(), "open": True, "objects": 50}.items() <= told.items()
    lookups = {"hits", "misses", "hit_bytes", "failed"}
    assert set(store.statistics().__dataclass_fields__) - lookups <= set(told)
    assert [worker["inserts"] for worker in told["workers"]] == [0, 0, 50]
    assert told["fill_states"] == {"empty": 0, "head": 0, "streaming": 0, "complete": 0, "failed": 0}


def test_a_closed_cache_can_be_looked_into(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    Store.create(MIB, path=path).close()
    assert run("--path", path) == 0
    out = capsys.readouterr().out
    assert f"cache in {path}, closed since 20" in out
    assert "requests" not in out  # nobody counts them
    assert run("--path", path, "--json") == 0
    assert not {"requests", "hits", "misses", "failed", "hit_ratio"} & set(json.loads(capsys.readouterr().out))


# ---- requests --------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(store: Store) -> Metrics:
    """A worker of the process whose store it is. What other edges of this process have counted is taken away."""
    gc.collect()
    return Pages(2).of(0)


def count(metrics: Metrics) -> None:
    """Three hits, one of them stale, and one each of what is none."""
    route = metrics.route("shop.test app")
    metrics.count("hit", "", route, 200, 1000, 0.000_020, stored=True)
    metrics.count("hit", "", route, 304, 100, 0.000_020, stored=True)
    metrics.count("stale", "origin-failed", route, 200, 1000, 0.000_020, stored=True)
    metrics.count("miss", "uri-miss", route, 200, 1000, 0.25, origin_s=0.2)
    metrics.count("revalidated", "stale", route, 200, 900, 0.25, origin_s=0.2)
    metrics.count("pass", "incomplete", route, 200, 4000, 0.25, origin_s=0.2)
    metrics.count("local", "", status=301, sent=50, seconds=0.000_100)
    metrics.count("error", "", status=404, sent=50, seconds=0.000_100)
    metrics.count("error", "", route, 502, 50, 0.000_100)
    metrics.refuse("head")


def test_json_counts_requests(served: Metrics, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    count(served)
    assert run("--json", "--path", path) == 0
    told = json.loads(capsys.readouterr().out)
    expected = {
        "requests": 9,
        "hits": 3,
        "misses": 2,
        "passes": 1,
        "failed": 2,
        "hit_ratio": 0.5,
        "bytes_sent": 8150,
        "hit_bytes": 2100,
        "hit_ratio_bytes": 2100 / 8000,
        "outcomes": {"hit": 2, "stale": 1, "miss": 1, "revalidated": 1, "pass": 1, "local": 1, "error": 2},
        "statuses": {"2xx": 5, "3xx": 2, "4xx": 1, "5xx": 1},
        "not_understood": {"head": 1},
        "connections": {"open": 0, "total": 0},
        "refused": 0,  # objects, by the store
    }
    assert {name: told[name] for name in expected} == expected
    assert told["reasons"] == {"origin-failed": 1, "uri-miss": 1, "stale": 1, "incomplete": 1}
    assert told["routes"]["other"] == {"local": 1, "error": 1}
    assert [each["count"] for each in told["latency_us"].values()] == [3, 6, 3]
    assert 20 <= told["latency_us"]["hits"]["p50"] <= 24
    assert [each.get("requests") for each in told["workers"]] == [9, 0, None]


def test_the_table_counts_requests(served: Metrics, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    count(served)
    assert run("--path", path) == 0
    said = capsys.readouterr().out
    assert "hit ratio 50.00% of requests, 26.25% of bytes\n" in said
    for line in (
        r"requests +9",
        r"  hit +2",
        r"  stale +1",
        r"failed +2",
        r"not understood +1",
        r"0 +9 +3 +2 +8\.0 KiB +0",
    ):
        assert re.search(f"^{line}$", said, re.MULTILINE), line
    assert re.search(r"^latency   hits 2\dµs/2\dµs, others \d+µs/\d+ms, origins \d+ms/\d+ms \(50%/99%\)$", said, re.M)
    assert max(map(len, said.splitlines()[1:])) <= 80  # the first has the file's name


def test_whole_responses_are_no_failures() -> None:
    metrics = Metrics()
    for outcome in ("miss", "pass", "hit"):
        metrics.count(outcome, "no-store", status=500)  # the origin's own error page came through whole
    metrics.count("error", "client-left", status=499)
    assert figures(metrics.snapshot()).failed == 0


def test_nothing_is_no_ratio() -> None:
    assert (figures(MetricsSnapshot()).hit_ratio, figures(MetricsSnapshot()).hit_ratio_bytes) == (0.0, 0.0)


def test_a_view_follows_and_can_only_read(store: Store, path: str) -> None:
    view = StoreView.open(path)
    assert view.statistics() == store.statistics()
    fill = store.claim(b"new")
    store.put(b"another", b"", b"x", 200, 0, 1, 2, 3, 4)
    assert fill is not None
    seen = view.statistics()
    assert seen == store.statistics()
    assert (seen.objects, seen.fills_open, seen.fill_states.empty) == (51, 1, 1)
    fill.release()
    modes = [line.split()[1] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(path)]
    assert modes == ["rw-s"]  # the store's own
    assert store.check() == []


def test_a_cache_that_is_dropped_stays_readable_to_who_looks(path: str) -> None:
    store = Store.create(4 * MIB, path=path)
    store.put(b"key", b"", b"x", 200, 0, 1, 2, 3, 4)
    view = StoreView.open(path)
    store.close()
    del store
    Store.create(MIB, path=path).close()
    assert view.statistics().objects == 1
    assert StoreView.open(path).statistics().objects == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--path", "/no/where"], 66, "cannot look into /no/where: No such file or directory"),
        (["--path", "/etc/passwd"], 65, "/etc/passwd is no cache of flyby"),
        (["--path", "/dev/zero"], 65, "/dev/zero is no cache of flyby"),
        (["--pid", "1"], 66, "process 1 has no cache that this user may look into"),
        (["--config", "/no/where"], 78, "/no/where: cannot be read"),
        (["--pid", "1", "--path", "x"], 2, "give one"),
        (["--interval", "0"], 2, "--interval"),
    ],
)
def test_what_is_not_there_is_one_line(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


@pytest.mark.parametrize(
    ("at", "says"), [(8, "of another version of flyby"), (40, "damaged"), (2048, "is no cache of flyby")]
)
def test_a_header_that_cannot_be_read_is_not_believed(
    at: int, says: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.create(MIB, path=path).close()
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"\xff\xff")
    assert run("--path", path) == os.EX_DATAERR
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("field", [56, 60, 64, 68, 96, 100, 104, 112, 136, 144, 148])
def test_a_digest_of_ones_own_leads_nowhere_else(path: str, field: int) -> None:
    """A header that was made up, with a digest that fits it: refused or read, but within the file."""
    Store.create(MIB, path=path).close()
    page = bytearray(Path(path).read_bytes()[:4096])
    values = list(RECORD_LAYOUT.unpack_from(page, RECORD_AT))
    length = next(length for length in range(RECORD_AT) if digest_of(page[:length]) == values[5])
    page[field : field + 4] = b"\xff\xff\xff\x7f"
    values[5] = digest_of(page[:length])
    RECORD_LAYOUT.pack_into(page, RECORD_AT, *values)
    with open(path, "r+b") as file:
        file.write(page)
    looking = subprocess.run(
        [sys.executable, "-m", "flyby", "stat", "--path", path, "--json"],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        timeout=20,
    )
    assert looking.returncode in (0, os.EX_DATAERR), looking


def test_what_is_no_file_is_not_looked_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        assert run("--path", str(place)) == os.EX_DATAERR
        assert "is no cache of flyby" in capsys.readouterr().err


@pytest.mark.parametrize("length", [0, 100, 4096, 100_000])
def test_a_file_that_is_cut_while_it_is_looked_at_is_an_error(path: str, length: int) -> None:
    store = Store.create(2 * MIB, path=path)
    view = StoreView.open(path)
    assert view.statistics().objects == 0
    store.close()
    del store
    os.truncate(path, length)
    with pytest.raises(StoreError, match="was cut short"):
        view.statistics()


def test_a_shortened_file_is_not_read(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    Store.create(2 * MIB, path=path).close()
    os.truncate(path, MIB)
    assert run("--path", path) == os.EX_DATAERR
    assert "damaged" in capsys.readouterr().err


# ---- which one it is -------------------------------------------------------------------------------------------------


def test_stores_in_use_are_found_by_who_holds_them(store: Store, path: str) -> None:
    anonymous = Store.create(MIB)
    pid = os.fork()
    if not pid:
        signal.pause()
    try:
        own = [found for found in running_stores() if os.getpid() in found.processes]
        assert {(found.process, found.name) for found in own} == {(os.getpid(), path), (os.getpid(), "memory")}
        assert all(pid in found.processes for found in own)
        assert {StoreView.open(found.path).statistics().objects for found in own} == {50, 0}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        anonymous.close()


ONE = RunningStore(70, (70, 71), "/proc/70/fd/4", "memory")
OTHER = RunningStore(80, (80,), "/proc/80/fd/5", "/run/flyby/cache")


@pytest.mark.parametrize(
    ("found", "arguments", "says"),
    [
        ([], [], "no flyby is running that this user may look into"),
        ([ONE, OTHER], [], "several are running, name one with --pid: 70 (memory"),
        ([ONE, OTHER], ["--pid", "71"], "cannot look into /proc/70/fd/4"),
        ([OTHER], [], "cannot look into /proc/80/fd/5"),
    ],
)
def test_the_only_one_or_the_one_that_is_named(
    found: list[RunningStore],
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = os.open

    def gone(path: str, flags: int, mode: int = 0o777) -> int:
        if path.startswith("/proc/"):
            raise FileNotFoundError(2, "No such file or directory")
        return real(path, flags, mode)

    monkeypatch.setattr("flyby.store.running.running_stores", lambda: found)
    monkeypatch.setattr(os, "open", gone)
    assert run(*arguments) == os.EX_NOINPUT
    assert says in capsys.readouterr().err


def test_the_configuration_names_it(
    store: Store, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "flyby.toml"
    file.write_text(f'[cache]\npath = "{path}"\n')
    assert run("--config", str(file)) == 0
    assert f"cache in {path}" in capsys.readouterr().out


def test_a_configuration_without_a_cache_file_names_the_flyby_that_listens_there(
    store: Store, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "flyby.toml"
    mine = RunningStore(os.getpid(), (os.getpid(),), path, "mine")
    monkeypatch.setattr("flyby.store.running.running_stores", lambda: [ONE, mine])
    places = [("127.0.0.1", "127.0.0.1:{}"), ("127.0.0.1", "localhost:{}"), ("0.0.0.0", ":{}"), ("::1", "[::1]:{}")]
    for host, listen in places:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as listener:
            port = listener.getsockname()[1]
            file.write_text(f'[server]\nlisten = ["{listen.format(port)}"]\n')
            assert run("--config", str(file)) == 0
            assert "cache in mine" in capsys.readouterr().out
        assert run("--config", str(file)) == os.EX_NOINPUT
        assert f"no flyby is running that listens on {listen.format(port)}, as {file} says" in capsys.readouterr().err


def test_what_runs_is_told_with_where_it_listens_and_since_when() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = described(os.getpid(), "memory")
    since = r"since \d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(rf"{os.getpid()} \(memory, listens on .*127\.0\.0\.1:{port}.*, {since}\)", said)


# ---- the live table --------------------------------------------------------------------------------------------------


def test_rates_are_what_came_since_the_last_look(store: Store) -> None:
    metrics = Metrics()
    metrics.count("hit", "", status=200, sent=1000, seconds=0.01, stored=True)
    before = Look([metrics.snapshot()], store.statistics())
    for _ in range(300):
        metrics.count("hit", "", status=200, sent=1000, seconds=0.000_020, stored=True)
    for _ in range(100):
        metrics.count("miss", "", status=200, sent=1000)
    now = Look([metrics.snapshot()], replace(before.store, inserts=before.store.inserts + 20))
    lines = table("memory", RECORD, now, before, 2.0)
    assert "hit ratio 75.06% of requests, 75.06% of bytes, just now 75.00%, 75.00%" in lines
    assert "latency   hits 23µs/23µs (50%/99%)" in lines  # not those of the look before
    rates = {line[:22].strip(): line[38:].strip() for line in lines}
    assert (rates["hit"], rates["miss"], rates["requests"], rates["stored"]) == ("150", "50", "200", "10")
    assert rates["from the store"] == "146.5 KiB"
    assert rates["bytes of them"] == "0 B"


def test_live_in_a_terminal_until_the_cache_ends(path: str) -> None:
    """A process with a cache, and another that watches it in a terminal; the first ends, and so does the second."""
    ready, tell = os.pipe()
    served = os.fork()
    if not served:
        made = Store.create(MIB, path=path)
        os.write(tell, b".")
        signal.pause()
        del made
    try:
        assert os.read(ready, 1)
        ours, theirs = pty.openpty()
        watching = subprocess.Popen(
            [sys.executable, "-m", "flyby", "stat", "--path", path, "--interval", "0.1"],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": PACKAGES},
        )
        os.close(theirs)
        screen = b""
        while screen.count(b"\x1b[H\x1b[J") < 3:
            assert select.select([ours], [], [], 20)[0]
            screen += os.read(ours, 65536)
        assert b"a second" in screen
        whole = screen.split(b"\x1b[H\x1b[J")[2].decode().splitlines()
        assert len(whole) < 24
        assert max(map(len, whole)) <= 80
    finally:
        os.kill(served, signal.SIGKILL)
        os.waitpid(served, 0)
    assert watching.wait(20) == os.EX_UNAVAILABLE
    assert watching.stderr is not None
    with watching.stderr as stream:
        assert stream.read() == f"flyby stat: process {served} has ended\n".encode()
    for fd in (ours, ready, tell):
        os.close(fd)
