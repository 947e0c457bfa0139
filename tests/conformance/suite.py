"""Where the suite is, and its two halves as processes.

It is taken from npm at one version, into a cache directory, unless a directory is named. Both halves are told what to
do by the environment variables that npm would set; the origin listens on a port of the kernel's choice and says which.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conformance.verdicts import Kind, Result, Test

PACKAGE = "http-cache-tests"
VERSION = "0.4.5"

INSTALL_S = 300.0
START_S = 20.0
RUN_S = 240.0

_LISTENS = re.compile(r"Listening on http://\S*:(\d+)/")

# The suite's own list of tests, as JSON. What cli.mjs adds to index.mjs is the extension.
_LIST = """
import tests from './tests/index.mjs'
import extension from './tests/surrogate-control.mjs'
const told = (suite, added) => suite.tests.map(test => ({
  id: test.id, kind: test.kind || 'required', depends_on: test.depends_on || [],
  browser_only: test.browser_only === true, extension: added
}))
console.log(JSON.stringify([...tests.flatMap(suite => told(suite, false)), ...told(extension, true)]))
"""


class SuiteError(Exception):
    """The suite could not be had, or did not run."""


class Suite:
    """The suite in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        if not (self.directory / "cli.mjs").is_file():
            raise SuiteError(f"{directory} does not hold {PACKAGE}: no cli.mjs there")

    def tests(self) -> dict[str, Test]:
        listed = self._node("--input-type=module", "-e", _LIST, seconds=START_S)
        return {entry["id"]: _test(entry) for entry in json.loads(listed)}

    @contextmanager
    def origin(self, port: int = 0) -> Iterator[int]:
        """The suite's origin, and the port that it listens on."""
        with tempfile.TemporaryDirectory(prefix="flyby-origin-") as directory:
            log = Path(directory, "log")
            settings = {"protocol": "http", "port": str(port), "pidfile": str(Path(directory, "pid"))}
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    [_program("node"), "server/server.mjs"],
                    cwd=self.directory,
                    env=_environment(settings),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            try:
                yield _port(process, log)
            finally:
                process.terminate()
                process.wait()

    def run(self, proxy: str, only: str = "", authority: str | None = None) -> dict[str, Result]:
        """Every test through the proxy at this URL; or one, of which the suite tells every request on the way.

        `authority` is a file of certificates that Node.js trusts beside its own.
        """
        trusted = {} if authority is None else {"NODE_EXTRA_CA_CERTS": authority}
        output = self._node("--no-warnings", "cli.mjs", seconds=RUN_S, trusted=trusted, base=proxy, id=only)
        if only:
            print(output)
            return {}
        start = output.find("{")
        if start < 0:
            raise SuiteError(f"the suite gave no results:\n{output[-2000:]}")
        results: dict[str, Result] = json.loads(output[start:])
        return results

    def _node(self, *arguments: str, seconds: float, trusted: Mapping[str, str] | None = None, **settings: str) -> str:
        try:
            done = subprocess.run(
                [_program("node"), *arguments],
                cwd=self.directory,
                env=_environment(settings) | dict(trusted or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise SuiteError(f"the suite did not end within {seconds:.0f} s") from None
        if done.returncode:
            raise SuiteError(f"node ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout


def default_directory() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "flyby", f"{PACKAGE}-{VERSION}")


def installed(directory: Path) -> Suite:
    """The suite under this npm prefix, installed there if it is not yet."""
    package = directory / "node_modules" / PACKAGE
    if not (package / "cli.mjs").is_file():
        directory.mkdir(parents=True, exist_ok=True)
        command = ["install", "--prefix", str(directory), "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            [_program("npm"), *command, f"{PACKAGE}@{VERSION}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
        if done.returncode:
            raise SuiteError(f"npm install {PACKAGE}@{VERSION} failed:\n{done.stderr[-2000:]}")
    return Suite(package)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SuiteError(f"{name} is not installed: the suite needs Node.js 14.8 or later")
    return found


def _environment(settings: dict[str, str]) -> dict[str, str]:
    # The suite looks at npm_config_* first, and so at anything that a surrounding npm may have left there.
    kept = {key: value for key, value in os.environ.items() if not key.lower().startswith("npm_")}
    return kept | {f"npm_package_config_{key}": value for key, value in settings.items()}


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_S
    while True:
        said = log.read_text(errors="replace")
        if found := _LISTENS.search(said):
            return int(found[1])
        if process.poll() is not None or time.monotonic() > deadline:
            raise SuiteError(f"the suite's origin did not start:\n{said}")
        time.sleep(0.02)


def _test(entry: dict[str, Any]) -> Test:
    return Test(
        id=entry["id"],
        kind=Kind(entry["kind"]),
        depends_on=tuple(entry["depends_on"]),
        browser_only=entry["browser_only"],
        extension=entry["extension"],
    )
