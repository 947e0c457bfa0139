"""`python -m benchmarks`: the run itself. Starts everything, loads everything in turn, prints, stops everything.

Rounds are interleaved: a round visits every case, and in a case every server, before the next round begins, so that a
slow minute of the machine falls on all of them. The order of the servers moves on by one each round.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from pathlib import Path

from benchmarks import cpu, load
from benchmarks.cases import CASES, Case, Client, Upstream, chosen, unmatched
from benchmarks.machine import Machine, machine
from benchmarks.servers import CACHE_MIB, Recipe, Running, ServerError, build, memory_directory, recipes, relay
from benchmarks.table import Sample, origin_note, render, rows

ROUNDS = 5
SECONDS = 3
PUT_OFF_S = 1.0  # what a cache puts off for after a fill is a part of its price


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure flyby beside the caches that are installed here."
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds, of which the median counts [%(default)s]")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="seconds of load for each figure [%(default)s]")
    parser.add_argument(
        "--only",
        "--case",
        action="append",
        default=[],
        metavar="SERVER/CASE",
        help="one server, one case or a pair; * matches any",
    )
    parser.add_argument(
        "--cache-mib",
        type=int,
        default=CACHE_MIB,
        help="size of every cache; a fill stores twice as much [%(default)s]",
    )
    parser.add_argument("--quick", action="store_true", help="one round of one second: a check, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample, the machine and the versions")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds = options.seconds = 1
    if min(options.rounds, options.seconds, options.cache_mib) < 1:
        parser.error("--rounds, --seconds and --cache-mib are at least 1")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(server: Running, origin: Running, case: Case, number: int, seconds: int, loader: load.Loader) -> Sample:
    """One figure. The server's CPU time is read just before and just after the load."""
    server.check(case)
    fetched = origin.answered()
    before = cpu.seconds(server.pid)
    seen = loader.run(server.target(case), case, seconds)
    if case.client is Client.FILL:
        time.sleep(PUT_OFF_S)
    after = cpu.seconds(server.pid)
    if seen.requests == 0:
        raise load.LoadError(f"{server.name}: {case.name}: no answer was counted")
    notes = [f"{seen.errors} errors"] if seen.errors else []
    if server.recipe.proxies:
        wrong = origin_note(case.reaches_origin, seen.requests, origin.answered() - fetched)
        notes += [wrong] if wrong else []
    return Sample(
        server.name, case.name, number, seen.requests, after - before, seen.rate, seen.p50_ms, seen.p99_ms, tuple(notes)
    )


def _pairs(servers: Sequence[Running], options: argparse.Namespace) -> list[tuple[Case, list[Running]]]:
    pairs = []
    for case in CASES:
        if options.quick and not case.quick:
            continue
        able = [server for server in servers if chosen(server.name, case, options.only) and server.takes(case)]
        if able:
            pairs.append((case, able))
    return pairs


def _run(
    servers: Sequence[Running], origin: Running, options: argparse.Namespace, loader: load.Loader
) -> tuple[list[Sample], list[str]]:
    """The samples, and once each why others are missing."""
    samples: list[Sample] = []
    lost: dict[str, None] = {}
    pairs = _pairs(servers, options)
    total = options.rounds * sum(len(able) for _, able in pairs)
    _say(f"{total} measurements of {options.seconds} s")
    for number in range(options.rounds):
        for case, able in pairs:
            first = number % len(able)
            for server in able[first:] + able[:first]:
                try:
                    sample = measure(server, origin, case, number, options.seconds, loader)
                except (ServerError, load.LoadError) as error:
                    _say(f"  left out: {error}")
                    lost[str(error)] = None
                    continue
                samples.append(sample)
                _say(f"  {number + 1}/{options.rounds} {case.name} {server.name}: {sample.cpu_us:.1f} µs")
    return samples, list(lost)


def _wanted(recipe: Recipe, upstream: Upstream, options: argparse.Namespace) -> bool:
    return any(
        case.upstream is upstream and recipe.takes(case) and chosen(recipe.name, case, options.only)
        for case in CASES
        if case.quick or not options.quick
    )


def _start(
    stack: ExitStack, known: Sequence[Recipe], origin: Running, options: argparse.Namespace, here: Machine
) -> tuple[list[Running], list[str]]:
    servers: list[Running] = []
    absent: list[str] = []
    secure: Running | None = None  # the origin's TLS
    for upstream, recipe in product(Upstream, known):
        if not _wanted(recipe, upstream, options):
            continue
        try:
            needed = recipe.missing() or (relay().missing() if upstream is Upstream.TLS else None)
            if needed is not None:
                raise ServerError(needed)
            port = origin.port
            if upstream is Upstream.TLS and recipe.beside is None:
                secure = secure or stack.enter_context(Running(relay(), origin.port, here.client_pin))
                port = secure.secure_port
            servers.append(
                stack.enter_context(
                    Running(recipe, port, here.server_pin, cache_mib=options.cache_mib, upstream=upstream)
                )
            )
        except ServerError as error:
            absent.append(str(error))
            _say(f"without {recipe.name}: {error}")
    return servers, list(dict.fromkeys(absent))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when every figure is what its case says, 1 when one is not or nothing could be measured."""
    options = _arguments(argv)
    here = machine()
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        versions = {"wrk": load.version()}
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="flyby-bench-", dir=memory_directory()))
            known = recipes(build("floor", Path(directory)))
            lost = unmatched([recipe.name for recipe in known], CASES, options.only)
            if lost:
                raise ServerError(f"--only {lost[0]} names no server and no case")
            loader = load.Loader(build("load", Path(directory)), here.client_pin)
            origin = stack.enter_context(Running(known[0], 0, here.client_pin))
            servers, absent = _start(stack, known, origin, options, here)
            versions |= {server.name: server.recipe.version() for server in servers}
            samples, left_out = _run(servers, origin, options, loader)
            absent += left_out
    except (ServerError, load.LoadError) as error:
        _say(f"benchmarks: {error}")
        return 1
    table = rows(samples, [recipe.name for recipe in known], [case.name for case in CASES])
    print(here.describe())
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(
        f"{options.rounds} rounds of {options.seconds} s, {load.CONNECTIONS} connections, one worker, "
        f"caches of {options.cache_mib} MiB; medians"
    )
    for reason in absent:
        print(f"Missing: {reason}")
    print()
    print(render(table))
    if options.json:
        report = {
            "began": began,
            "machine": asdict(here),
            "versions": versions,
            "missing": absent,
            "settings": {
                "rounds": options.rounds,
                "seconds": options.seconds,
                "cache_mib": options.cache_mib,
                "connections": load.CONNECTIONS,
                "threads": load.THREADS,
            },
            "medians": [asdict(row) for row in table],
            "samples": [{**asdict(sample), "cpu_us": sample.cpu_us} for sample in samples],
        }
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return 0 if table and not any(row.notes for row in table) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
