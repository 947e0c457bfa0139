"""The command line as a user has it: `python -m flyby serve …` as a child process, started, awaited and stopped.

It listens on a port of the kernel's choice and says which in its first lines. It counts as started when it has answered
a request without Host: every server refuses that by itself (RFC 9112 3.2), so no origin is bothered. What it writes
goes to a file, which is told with every failure. It is ended by its process id, and with it (a signal of its own
doing) its workers.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import flyby

# Where this process found flyby, so that a child that starts elsewhere finds the same.
PACKAGES = str(Path(flyby.__file__).resolve().parents[1])
START_S = 20.0
STOP_S = 10.0

_LISTENS = re.compile(rb"flyby listens on https?://127\.0\.0\.1:(\d+)")


class NotServing(Exception):
    """flyby did not start, or did not stop."""


@dataclass
class ServedEdge:
    """A running `flyby serve`."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    secure: bool = False
    port: int = 0

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """Everything it has written, both streams."""
        return Path(self.log.name).read_text(errors="replace")

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None:
                raise NotServing(f"flyby ended with {self.process.returncode}:\n{self.said()}")
            if time.monotonic() > deadline:
                raise NotServing(f"flyby does not answer after {START_S:.0f} s:\n{self.said()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        if not self.port:
            found = _LISTENS.search(Path(self.log.name).read_bytes())
            if found is None:
                return False
            self.port = int(found[1])
        try:
            with self._connected() as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return connection.recv(9) == b"HTTP/1.1 "
        except OSError:
            return False

    def _connected(self) -> socket.socket:
        plain = socket.create_connection(self.address, 1)
        if not self.secure:
            return plain
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain)

    def stop(self) -> int:
        """TERM, and its exit status; KILL when it does not obey is a failure."""
        if self.process.poll() is None:
            self.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise NotServing(f"flyby had to be killed {STOP_S:.0f} s after TERM:\n{self.said()}") from None


@contextmanager
def served(
    *options: str,
    config: str | None = None,
    workers: int = 1,
    secure: bool = False,
    program: tuple[str, ...] = ("-m", "flyby"),
) -> Iterator[ServedEdge]:
    """`flyby serve` with these options, over the text of a configuration file if there is one; `secure` with TLS.

    `program` is how Python is told to run flyby.
    """
    with tempfile.TemporaryDirectory(prefix="flyby-test-") as directory:
        command = [sys.executable, *program, "serve", "--workers", str(workers)]
        command += ["--listen", "https://127.0.0.1:0" if secure else "127.0.0.1:0"]
        if config is not None:
            file = Path(directory, "flyby.toml")
            file.write_text(config)
            command += ["-c", str(file)]
        with open(Path(directory, "log"), "wb") as log:
            process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, "PYTHONPATH": PACKAGES, "PYTHONUNBUFFERED": "1", "XDG_STATE_HOME": directory},
            )
            edge = ServedEdge(process, log, secure)
            try:
                edge.wait_until_it_answers()
                yield edge
            finally:
                edge.stop()
