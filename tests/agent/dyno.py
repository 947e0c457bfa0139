"""What stands in a dyno, for tests: an application on a local port that does as it is told, and the agent as a process.

The application is a script for each connection: a function that gets the socket, in a thread. The agent is run as a
user would run it, `python -m flyby_agent`, with a clean environment; what it writes is kept and told with a failure.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import flyby_agent
from tests.agent.edge import WAIT_S, until

PACKAGES = str(Path(flyby_agent.__file__).resolve().parents[1])
SHELLS_IGNORE = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
Script = Callable[[socket.socket, bytes], object]


def read_head(connection: socket.socket) -> bytes:
    """A request's head and what came with it; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    return data


def answer(body: bytes = b"hello", fields: bytes = b"") -> Script:
    """Answers every request, kept alive; a request's content is not read."""

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (fields, len(body), body))

    return script


class FakeApp:
    """Accepts on loopback; `script(connection, bytes of the request so far)` for each request, until it closes."""

    def __init__(self, script: Script, port: int = 0, host: str = "127.0.0.1") -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0  # that carried a request
        self._open: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        first = True
        try:
            while request := read_head(connection):
                self.connections += first
                first = False
                self.requests.append(request)
                self.script(connection, request)
        except OSError:
            pass  # closed by the script, or by the agent
        finally:
            connection.close()

    def stop(self) -> None:
        """No more connections, and the open ones end."""
        with contextlib.suppress(OSError):  # it was stopped before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)


class FakeProxy:
    """A forward proxy on loopback: answers each CONNECT with `answer`, and when that is 200 leads to `port` of this
    machine, whatever was asked for. `heads` are the requests, `seen` every byte that came through from the clients."""

    OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"

    def __init__(self, port: int, answer: bytes) -> None:
        self.heads: list[bytes] = []
        self.seen = b""
        self._answer = answer
        self._to = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.heads.append(read_head(connection))
            connection.sendall(self._answer)
            if self._answer is not self.OPENED:
                return
            with socket.create_connection(("127.0.0.1", self._to)) as onward:
                self._open.append(onward)
                threading.Thread(target=self._pass, args=(onward, connection), daemon=True).start()
                while data := connection.recv(65536):
                    self.seen += data
                    onward.sendall(data)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def stop(self) -> None:
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):  # it is closed already
                each.shutdown(socket.SHUT_RDWR)


class AgentProcess:
    """`python -m flyby_agent …`, or another command with the agent in it."""

    def __init__(
        self,
        *arguments: str,
        environment: dict[str, str],
        command: tuple[str, ...] = (sys.executable, "-m", "flyby_agent"),
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="flyby-agent-test-")
        self.runtime = os.path.join(self._directory.name, "run")
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PACKAGES,
            "PYTHONWARNINGS": "error::DeprecationWarning:flyby_agent",
            "FLY_RUNTIME_DIR": self.runtime,
            **environment,
        }
        self._log = Path(self._directory.name, "log")
        self.command = [*command, *arguments]
        # Under nohup, or behind a shell's `&`, a child would be born deaf to these, and could not be made to hear them.
        deaf = [number for number in SHELLS_IGNORE if signal.getsignal(number) is signal.SIG_IGN]
        for number in deaf:
            signal.signal(number, signal.SIG_DFL)
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self._directory.name,
            )
        for number in deaf:
            signal.signal(number, signal.SIG_IGN)

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        try:
            until(lambda: text in self.said() or self.process.poll() is not None, repr(text))
        except AssertionError as error:
            raise AssertionError(f"{error} in\n{self.said()}") from None
        assert text in self.said(), self.said()

    def memory(self, what: str) -> int:
        """VmRSS (now) or VmHWM (at its highest), in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{what}:")[1].split()[0]) * 1024

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        try:
            return self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent did not end:\n{self.said()}") from None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command in the same environment."""
        return subprocess.run(
            [*self.command[:3], *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            cwd=self._directory.name,
        )

    def stop(self) -> int:
        if self.process.poll() is None:
            self.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the agent had to be killed:\n{self.said()}") from None
        finally:
            self._directory.cleanup()
