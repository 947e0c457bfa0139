"""The benchmark's pure parts: reading wrk and /proc, medians and ratios, the table. No load is made here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from benchmarks import cpu, store, traces
from benchmarks.cases import CASES, Case, Client, Upstream, chosen, unmatched
from benchmarks.load import CONNECTIONS, LoadError, command, parse_line, parse_wrk
from benchmarks.machine import cpu_model
from benchmarks.servers import Place, recipes, relay, version_in
from benchmarks.table import Sample, origin_note, render, rows

WRK = """\
Running 2s test @ http://127.0.0.1:8080/hit/1024
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   512.31us  101.20us   4.10ms   91.00%
    Req/Sec    61.02k     2.11k   64.88k    80.00%
  Latency Distribution
     50%  498.00us
     75%  530.00us
     90%    1.01ms
     99%    2.75ms
  121934 requests in 2.01s, 143.98MB read
Requests/sec:  60663.68
Transfer/sec:     71.63MB
"""


def test_wrk_report_is_read() -> None:
    seen = parse_wrk(WRK)
    assert (seen.requests, seen.errors) == (121934, 0)
    assert seen.seconds == pytest.approx(2.01)
    assert seen.p50_ms == pytest.approx(0.498)
    assert seen.p99_ms == pytest.approx(2.75)
    assert seen.rate == pytest.approx(121934 / 2.01)


def test_wrk_errors_are_summed() -> None:
    failed = WRK.replace(
        "Requests/sec",
        "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 50\nRequests/sec",
    )
    assert parse_wrk(failed).errors == 60


@pytest.mark.parametrize(
    ("value", "expected"), [("750.00us", 0.75), ("3.50ms", 3.5), ("1.20s", 1200.0), ("1.00m", 60_000.0)]
)
def test_every_unit_of_wrk_is_known(value: str, expected: float) -> None:
    assert parse_wrk(WRK.replace("2.75ms", value)).p99_ms == pytest.approx(expected)


@pytest.mark.parametrize("lost", ["121934 requests in 2.01s, ", "     99%    2.75ms\n", "     50%  498.00us\n"])
def test_a_report_without_its_figures_is_an_error(lost: str) -> None:
    with pytest.raises(LoadError):
        parse_wrk(WRK.replace(lost, ""))


def test_wrk_is_bounded_and_pinned() -> None:
    case = Case("x", "/hit/1", 1, False, headers=(("If-None-Match", '"1"'),))
    argv = command("http://127.0.0.1:1", case, 0.4, ("taskset", "-c", "0"))
    assert argv[:4] == ["taskset", "-c", "0", "wrk"]
    assert argv[argv.index("-d") + 1] == "1s"
    assert argv[argv.index("-t") + 1] == "1"
    assert CONNECTIONS == 64
    assert argv[argv.index("wrk") :][3:5] == ["-c", "64"]
    assert argv[-3:] == ["-H", 'If-None-Match: "1"', "http://127.0.0.1:1/hit/1"]


def test_wrk_is_told_of_a_content_by_a_script(tmp_path: Path) -> None:
    case = Case("x", "/post/1", 1, True, content=b"a=b")
    argv = command("http://127.0.0.1:1", case, 1, (), tmp_path / "x.lua")
    assert argv[argv.index("-s") + 1] == str(tmp_path / "x.lua")
    assert case.method == "POST"


def test_a_line_of_our_own_clients_is_read() -> None:
    seen = parse_line("1000 2 0.500000 400 900 1100\n")
    assert (seen.requests, seen.errors, seen.seconds, seen.p50_ms, seen.p99_ms) == (1000, 2, 0.5, 0.4, 0.9)
    for broken in ("", "1000 2 0.5 400 900", "a b c d e f"):
        with pytest.raises(LoadError):
            parse_line(broken)


def stat(pid: int, name: str, parent: int, times: tuple[int, int, int, int]) -> str:
    before = "1 1 0 -1 4194560 100 200 0 0"  # fields 5 to 13
    return f"{pid} ({name}) S {parent} {before} {' '.join(map(str, times))} 20 0 1 0 5000"


@pytest.mark.parametrize("name", ["nginx", "a b", "ev) R 1 (il"])
def test_stat_is_read_whatever_the_name(name: str) -> None:
    assert cpu.parse_stat(stat(42, name, 7, (100, 20, 3, 4))) == cpu.ProcessTimes(42, 7, 127)


def test_tree_holds_every_descendant_and_nothing_else() -> None:
    processes = [
        cpu.ProcessTimes(pid, parent, 1) for pid, parent in [(1, 0), (10, 1), (11, 10), (12, 11), (13, 10), (20, 1)]
    ]
    assert sorted(process.pid for process in cpu.tree(10, processes)) == [10, 11, 12, 13]
    assert cpu.tree(99, processes) == []


def sample(server: str, case: str, number: int, cpu_us: float, **changed: object) -> Sample:
    fields: dict[str, object] = {"rate": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0, **changed}
    return Sample(server, case, number, 1_000_000, cpu_us, **fields)  # type: ignore[arg-type]


SERVERS = ["floor", "flyby", "nginx", "haproxy"]


def test_medians_and_ratios() -> None:
    measured = [
        *(sample("floor", "hit", number, value) for number, value in enumerate([9.0, 10.0, 30.0])),
        *(sample("flyby", "hit", number, value, rate=value * 10) for number, value in enumerate([12.0, 13.0, 11.0])),
        *(sample("nginx", "hit", number, 24.0) for number in range(3)),
        *(sample("haproxy", "hit", number, 16.0) for number in range(3)),
    ]
    floor, flyby, nginx, haproxy = rows(measured, SERVERS, ["hit"])
    assert floor.cpu_us == pytest.approx(10.0)
    assert (floor.rounds, floor.of_floor, floor.of_best_peer) == (3, None, None)
    assert flyby.cpu_us == pytest.approx(12.0)
    assert flyby.rate == pytest.approx(120.0)
    assert flyby.spread == pytest.approx(2 / 12)
    assert flyby.of_floor == pytest.approx(1.2)
    assert flyby.of_best_peer == pytest.approx(0.75)
    # A peer is compared with the other peers, never with itself nor with us.
    assert nginx.of_best_peer == pytest.approx(1.5)
    assert haproxy.of_best_peer == pytest.approx(16 / 24)


def test_a_bare_event_loop_is_a_floor_and_no_peer() -> None:
    measured = [
        sample(server, "churn", 0, value) for server, value in [("flyby", 30.0), ("nginx", 25.0), ("uvloop", 20.0)]
    ]
    ours, nginx, uvloop = rows(measured, ["flyby", "nginx", "uvloop"], ["churn"])
    assert (ours.of_floor, ours.of_best_peer) == (1.5, 1.2)
    assert (nginx.of_best_peer, uvloop.of_floor, uvloop.of_best_peer) == (None, None, None)


def test_ratios_do_not_cross_cases() -> None:
    table = rows([sample("floor", "hit", 0, 10.0), sample("flyby", "miss", 0, 30.0)], SERVERS, ["miss", "hit"])
    assert [(row.case, row.server) for row in table] == [("miss", "flyby"), ("hit", "floor")]
    assert (table[0].of_floor, table[0].of_best_peer) == (None, None)


def test_less_than_a_tick_is_no_ratio() -> None:
    table = rows([sample(server, "hit", 0, 0.0) for server in ("floor", "flyby", "nginx")], SERVERS, ["hit"])
    assert [(row.spread, row.of_floor, row.of_best_peer) for row in table] == [(0.0, None, None)] * 3


@pytest.mark.parametrize(
    ("reaches", "requests", "fetched", "wrong"),
    [
        (False, 10_000, 0, None),
        (False, 10_000, 2, None),
        (False, 10_000, 9_000, "not a hit: the origin saw 90%"),
        (True, 10_000, 10_064, None),
        (True, 10_000, 5_000, "not a miss: the origin saw 50%"),
    ],
)
def test_a_figure_must_be_what_its_case_says(reaches: bool, requests: int, fetched: int, wrong: str | None) -> None:
    assert origin_note(reaches, requests, fetched) == wrong


def test_table_is_aligned_markdown() -> None:
    measured = [
        sample("floor", "hit", 0, 10.0, rate=123456.0),
        sample("nginx", "hit", 0, 25.04),
        sample("nginx", "hit", 1, 25.04),
    ]
    assert render(rows(measured, SERVERS, ["hit"])).splitlines() == [
        "| case | server | CPU µs/request | spread | of the floor | of the best peer | requests/s | p99 ms |",
        "|------|--------|---------------:|-------:|-------------:|-----------------:|-----------:|-------:|",
        "| hit  | floor  |           10.0 |        |              |                  |    123,456 |   2.00 |",
        "| hit  | nginx  |           25.0 |     0% |         2.50 |                  |      1,000 |   2.00 |",
    ]


def test_notes_are_shown_once() -> None:
    measured = [sample("nginx", "hit", number, 25.0, notes=("3 errors",)) for number in range(2)]
    lines = render(rows(measured, SERVERS, ["hit"])).splitlines()
    assert lines[0].endswith("| note     |")
    assert lines[2].endswith("| 3 errors |")


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ([], True),
        (["nginx"], True),
        (["hit-1k"], True),
        (["nginx/hit-1k"], True),
        (["nginx/hit-*"], True),
        (["*/hit-1k"], True),
        (["haproxy/hit-1k"], False),
        (["nginx/miss-*"], False),
        (["haproxy", "hit-1k"], True),
    ],
)
def test_only(only: list[str], expected: bool) -> None:
    [case] = [each for each in CASES if each.name == "hit-1k"]
    assert chosen("nginx", case, only) is expected


def test_only_that_names_nothing_is_told() -> None:
    assert unmatched(["nginx"], CASES, ["nginx", "hit-*", "ngnix/hit-1k"]) == ["ngnix/hit-1k"]


def test_the_cases_that_are_promised_are_there() -> None:
    names = {case.name for case in CASES if case.quick}
    assert names == {f"{kind}-{size}" for kind in ("hit", "miss") for size in ("1k", "16k", "128k")}
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        kept = case.path.startswith(("/hit/", "/noise/")) and case.client is not Client.FILL
        assert case.reaches_origin is not kept, case.name


def test_every_case_is_one_that_floor_c_answers() -> None:
    targets = re.findall(r'= \{"(\w+) (/\w+/)"', (Path(__file__).parents[1] / "benchmarks" / "floor.c").read_text())
    assert len(targets) == 8
    for case in CASES:
        assert (case.method, case.path[: case.path.index("/", 1) + 1]) in targets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12-1+deb12u4"),
        ("varnishd (varnish-7.1.1 revision 7cee1c5)", "7.1.1"),
        ("", "unknown"),
    ],
)
def test_versions(text: str, expected: str) -> None:
    assert version_in(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("processor\t: 0\nmodel name\t: Some  CPU @ 2GHz\nmodel name\t: Other\n", "Some CPU @ 2GHz")],
)
def test_cpu_model(text: str, expected: str) -> None:
    assert cpu_model(text) == expected


@pytest.mark.parametrize("upstream", Upstream)
def test_every_server_has_one_worker_and_listens_on_loopback_only(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    told = {}
    for recipe in [*recipes(tmp_path_factory.mktemp("floor") / "floor"), relay()]:
        directory = tmp_path_factory.mktemp(recipe.name)
        argv = recipe.command(Place(directory, 18080, 18443, 18081, directory / "edge.pem", upstream=upstream))
        told[recipe.name] = " ".join(argv) + "".join(each.read_text() for each in directory.iterdir())
    assert set(told) == {"floor", "flyby", "flyby-tunnel", "nginx", "haproxy", "varnish", "uvloop", "relay"}
    for name, text in told.items():
        assert "18080" in text
        if name not in ("floor", "uvloop"):  # which know no other address
            assert "127.0.0.1:18080" in text
            assert ("18081" in text) == (name != "flyby-tunnel")  # whose origin dials in
        assert ("18443" in text) == (name not in ("floor", "varnish"))
        assert not re.search(r"0\.0\.0\.0|\[::\]", text)
    assert "worker_processes 1;" in told["nginx"]
    assert "nbthread 1" in told["haproxy"]
    assert "--workers 1" in told["flyby"]
    assert "--workers 1" in told["flyby-tunnel"]
    secure = upstream is Upstream.TLS
    assert ("proxy_pass https:" in told["nginx"]) is secure
    assert ("18081 ssl" in told["haproxy"]) is secure
    assert ("https://127.0.0.1:18081" in told["flyby"]) is secure


def test_which_server_takes_which_case() -> None:
    taking = {
        case.name: {recipe.name for recipe in recipes(Path("floor")) if recipe.takes(case)} - {"varnish"}
        for case in CASES
    }
    everybody = {"flyby", "nginx", "haproxy"}
    assert all(everybody <= names for names in taking.values())
    assert {name for name, names in taking.items() if "floor" in names} == {
        *("hit-1k", "hit-16k", "hit-128k", "hit-1k-browser", "hit-304"),
    }
    assert {name for name, names in taking.items() if "uvloop" in names} == {
        *("churn", "churn-tls", "churn-tls-resumed"),
    }
    assert {"miss-1k", "tls-miss-1k", "tls-origin-1k"} <= {
        name for name, names in taking.items() if "flyby-tunnel" in names
    }


def test_traces_are_the_same_for_every_cache_and_what_they_say() -> None:
    assert traces.zipf(1000, 5000, 0.9) == traces.zipf(1000, 5000, 0.9)
    flat, steep = (len(set(traces.zipf(1000, 5000, alpha))) for alpha in (0.7, 1.1))
    assert flat > steep
    scanned = traces.scan(1000, 8000, capacity=100)
    assert len(scanned) == 8800
    assert len({name for name in scanned if name >= 1000}) == 800
    shifted = traces.shift(1000, 10_000)
    first, last = (set(shifted[start : start + 1000]) for start in (0, 9000))
    assert len(first & last) < len(first) / 2


def test_lru_is_one() -> None:
    assert traces.lru([1, 2, 1, 3, 2], capacity=2) == 1 / 5
    assert traces.lru([1, 2, 1, 3, 1], capacity=2) == 2 / 5


def test_what_a_store_is_measured_by_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert store.main(["capacity", "lookup", "--objects", "10000"]) == 0
    out = capsys.readouterr().out
    assert "| objects | cache MiB |" in out
    assert "|   10000 | 100.00% |" in out
    with pytest.raises(SystemExit):
        store.main(["capacty"])


@pytest.mark.parametrize("name", ["floor.c", "load.c"])
def test_what_is_compiled_belongs_to_the_repository(name: str) -> None:
    # The C files that Cython makes are ignored, and these two would be among them.
    root = Path(__file__).parents[1]
    tracked = subprocess.run(["git", "ls-files", f"benchmarks/{name}"], cwd=root, capture_output=True, text=True)
    assert tracked.returncode != 0 or tracked.stdout, f"benchmarks/{name} is not under version control"
    assert (root / "benchmarks" / name).is_file()
