"""The clients: each on loopback, for a bounded time or a bounded number of requests; and what they reported.

Most cases are wrk's: one thread, kept connections. What it cannot do is done by load.c (every URL once) and
handshakes.py (a connection a request, over TLS).

wrk is a closed loop: each connection sends its next request when the answer to the last has come, so the server is
always saturated and latency is queueing. That is the right load for "CPU per request" and for the highest rate; the
p99 compares servers under their own full load, it is not the latency that a user would see.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import MIB, Case, Client

CONNECTIONS = 64
THREADS = 1
FILL_S = 120.0  # a fill that lasts longer is given up
HANDSHAKES = Path(__file__).with_name("handshakes.py")

_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
_DURATION = r"([0-9.]+)(us|ms|s|m|h)"
_TOTAL = re.compile(rf"^\s*([0-9]+) requests in {_DURATION},", re.M)
_PERCENTILE = re.compile(rf"^\s+([0-9.]+)%\s+{_DURATION}\s*$", re.M)
_SOCKET_ERRORS = re.compile(r"Socket errors: connect ([0-9]+), read ([0-9]+), write ([0-9]+), timeout ([0-9]+)")
_WRONG_STATUS = re.compile(r"Non-2xx or 3xx responses: ([0-9]+)")
_VERSION = re.compile(r"^wrk (\S+)")


class LoadError(Exception):
    """wrk did not run, or said something that we do not understand."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int  # sockets that failed and answers that were neither 2xx nor 3xx

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds else 0.0


def parse_wrk(text: str) -> Load:
    """What `wrk --latency` printed; LoadError when a part is missing."""
    total = _TOTAL.search(text)
    percentiles = {float(share): float(value) * _UNITS_MS[unit] for share, value, unit in _PERCENTILE.findall(text)}
    if total is None or 99.0 not in percentiles or 50.0 not in percentiles:
        raise LoadError(f"wrk said what we do not understand: {text.strip() or 'nothing'}")
    failed = _SOCKET_ERRORS.search(text)
    wrong = _WRONG_STATUS.search(text)
    errors = sum(int(each) for each in failed.groups()) if failed else 0
    errors += int(wrong.group(1)) if wrong else 0
    seconds = float(total.group(2)) * _UNITS_MS[total.group(3)] / 1000
    return Load(int(total.group(1)), seconds, percentiles[50.0], percentiles[99.0], errors)


def parse_line(text: str) -> Load:
    """What load.c and handshakes.py print: requests, errors, seconds, and three percentiles in µs."""
    words = text.split()
    try:
        requests, errors, seconds, p50, p99, _ = (float(word) for word in words)
    except ValueError as error:
        raise LoadError(f"a client said what we do not understand: {text.strip() or 'nothing'}") from error
    return Load(int(requests), seconds, p50 / 1000, p99 / 1000, int(errors))


def command(
    url: str, case: Case, seconds: float, pinned: tuple[str, ...] = (), script: Path | None = None
) -> list[str]:
    """wrk's command line; `pinned` is a prefix such as `taskset -c 0`. wrk takes whole seconds."""
    argv = [*pinned, "wrk", "-t", str(THREADS), "-c", str(CONNECTIONS), "-d", f"{max(1, round(seconds))}s", "--latency"]
    if script is not None:
        argv += ["-s", str(script)]
    for name, value in case.headers:
        argv += ["-H", f"{name}: {value}"]
    return [*argv, url + case.path]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the load goes."""

    url: str  # without a final slash
    port: int
    cache_mib: int


class Loader:
    """Makes the load of any case."""

    def __init__(self, program: Path, pinned: tuple[str, ...] = ()) -> None:
        self._program = program  # load.c, built; what is written stands beside it
        self._pinned = pinned
        self._fills = itertools.count()

    def run(self, target: Target, case: Case, seconds: float) -> Load:
        """Load the target and wait; raises LoadError. A FILL ends when all is stored, whatever `seconds` says."""
        if case.client is Client.WRK:
            return parse_wrk(
                self._output(command(target.url, case, seconds, self._pinned, self._script(case)), seconds)
            )
        if case.client is Client.FILL:
            keys = 2 * target.cache_mib * MIB // case.size
            path = f"{case.path}?fill={next(self._fills)}&n=%u"
            argv = [*self._pinned, str(self._program), str(target.port), str(CONNECTIONS), "0", "0", str(keys), path]
            return parse_line(self._output(argv, FILL_S))
        argv = [*self._pinned, sys.executable, str(HANDSHAKES), str(target.port), str(seconds), case.client.value]
        return parse_line(self._output([*argv, case.path], seconds))

    def _script(self, case: Case) -> Path | None:
        """What tells wrk of a content; None when there is none."""
        if not case.content:
            return None
        script = self._program.parent / f"{case.name}.lua"
        script.write_text(f'wrk.method = "{case.method}"\nwrk.body = "{case.content.decode("ascii")}"\n')
        return script

    @staticmethod
    def _output(argv: list[str], seconds: float) -> str:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 20, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LoadError(f"{argv[0]}: {error}") from error
        if done.returncode != 0:
            raise LoadError(f"the client failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout


def version() -> str:
    """wrk's version; LoadError when it is not installed. (It prints it with its usage, and exits with 1.)"""
    try:
        done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, timeout=10, check=False)
    except OSError as error:
        raise LoadError("wrk is not installed (apt install wrk)") from error
    # Debian's says "wrk debian/4.1.0-3+b2 [epoll] ..."
    found = _VERSION.match(done.stdout or done.stderr)
    return found.group(1) if found else "unknown"
