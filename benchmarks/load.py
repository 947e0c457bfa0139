"""The client: one wrk, one thread, keep-alive connections, on loopback, for a bounded time; and what it reported.

wrk is a closed loop: each connection sends its next request when the answer to the last has come, so the server is
always saturated and latency is queueing. That is the right load for "CPU per request" and for the highest rate; the
p99 compares servers under their own full load, it is not the latency that a user would see.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from benchmarks.cases import Case

CONNECTIONS = 64
THREADS = 1

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


def command(url: str, case: Case, seconds: float, pinned: tuple[str, ...] = ()) -> list[str]:
    """The command line; `pinned` is a prefix such as `taskset -c 0`. wrk takes whole seconds."""
    argv = [*pinned, "wrk", "-t", str(THREADS), "-c", str(CONNECTIONS), "-d", f"{max(1, round(seconds))}s", "--latency"]
    for name, value in case.headers:
        argv += ["-H", f"{name}: {value}"]
    return [*argv, url + case.path]


def run(url: str, case: Case, seconds: float, pinned: tuple[str, ...] = ()) -> Load:
    """Load `url` and wait; never much longer than `seconds`."""
    try:
        done = subprocess.run(
            command(url, case, seconds, pinned), capture_output=True, text=True, timeout=seconds + 20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoadError(f"wrk: {error}") from error
    if done.returncode != 0:
        raise LoadError(f"wrk: {(done.stderr or done.stdout).strip()}")
    return parse_wrk(done.stdout)


def version() -> str:
    """wrk's version; LoadError when it is not installed. (It prints it with its usage, and exits with 1.)"""
    try:
        done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, timeout=10, check=False)
    except OSError as error:
        raise LoadError("wrk is not installed (apt install wrk)") from error
    # Debian's says "wrk debian/4.1.0-3+b2 [epoll] ..."
    found = _VERSION.match(done.stdout or done.stderr)
    return found.group(1) if found else "unknown"
