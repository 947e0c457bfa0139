"""The supervisor and its workers as real processes: signals, restarts, reloads, exit codes."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.edge import PACKAGES

PROGRAM = Path(__file__).with_name("serving.py")

CONFIG = """\
[server]
listen = ["127.0.0.1:0"]
workers = {workers}
[server.timeouts]
drain_s = {drain_s}
[cache]
size = "8MiB"
profile = "{profile}"
[backends.app]
origins = ["http://127.0.0.1:9"]
"""


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Served:
    """One running supervisor."""

    def __init__(self, process: subprocess.Popen[str], config: Path) -> None:
        self.process = process
        self.config = config
        self.errors = ""
        self.port = 0

    def started(self) -> None:
        self.until_said("flyby listens on ")
        self.until_said("profile")
        found = re.search(r"^flyby listens on http://127\.0\.0\.1:(\d+)$", self.errors, re.M)
        assert found, self.errors + self.stop()
        self.port = int(found[1])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def who(self, connection: socket.socket | None = None) -> tuple[int, int, str]:
        if connection is None:
            with self.connect() as connection:
                return self.who(connection)
        connection.sendall(b"who\n")
        pid, index, profile = connection.recv(100).decode().split()
        return int(pid), int(index), profile

    def workers(self) -> dict[int, int]:
        """The process of each worker, as connections find them."""
        found: dict[int, int] = {}
        for _ in range(40):
            pid, index, _ = self.who()
            found[index] = pid
        return found

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def until_said(self, text: str) -> None:
        """Wait for words on standard error."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + 10
        while text not in self.errors:
            ready, _, _ = select.select([self.process.stderr], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{text!r} was not said, but: {self.errors}"
            piece = os.read(self.process.stderr.fileno(), 65536).decode()
            assert piece, f"{text!r} was not said, but: {self.errors}"
            self.errors += piece

    def stop(self) -> str:
        if self.process.poll() is None:
            self.process.terminate()
        _, errors = self.process.communicate(timeout=20)
        self.errors += errors
        return self.errors


def write(path: Path, *, workers: int = 2, profile: str = "default", drain_s: float = 5) -> None:
    path.write_text(CONFIG.format(workers=workers, profile=profile, drain_s=drain_s))


def launch(config: Path, *mode: str, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
    paths = [PACKAGES, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(config), *mode],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


@contextmanager
def serving(folder: Path, *mode: str, workers: int = 2, drain_s: float = 5) -> Iterator[Served]:
    config = folder / "flyby.toml"
    write(config, workers=workers, drain_s=drain_s)
    served = Served(launch(config, *mode), config)
    try:
        served.started()
        yield served
    finally:
        served.stop()


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionError:
        return True
    return False


def test_connections_spread_over_the_workers(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        workers = served.workers()
    assert set(workers) == {0, 1}
    assert len(set(workers.values())) == 2
    assert served.process.returncode == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_draining_finishes_what_is_in_flight(tmp_path: Path, signum: int) -> None:
    with serving(tmp_path) as served, served.connect() as connection:
        connection.sendall(b"slow\n")
        assert connection.recv(10) == b"begun\n"
        served.send(signum)
        until(lambda: refused(served.port))
        assert connection.recv(10) == b"done\n"
        assert served.process.wait(10) == 0
        assert "ended" not in served.stop()


def test_draining_is_bounded(tmp_path: Path) -> None:
    with serving(tmp_path, drain_s=0.1) as served, served.connect() as connection:
        connection.sendall(b"slow\n")
        assert connection.recv(10) == b"begun\n"
        served.send(signal.SIGTERM)
        assert served.process.wait(10) == 0
        with suppress(ConnectionError):  # not "done": half a second is more than the drain allows
            assert connection.recv(10) == b""


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, drain_s=60) as served, served.connect() as connection:
        workers = served.workers()
        pid = served.who(connection)[0]
        os.kill(pid, signal.SIGSTOP)  # would not end by itself for a minute
        served.send(signal.SIGINT)
        served.until_said("draining")
        served.send(signal.SIGINT)
        assert served.process.wait(5) == 0
        assert not any(alive(each) for each in workers.values())


def test_an_interrupt_from_the_terminal_reaches_the_workers_too(tmp_path: Path) -> None:
    """A terminal sends INT to the whole group: the workers must leave it to the supervisor."""
    with serving(tmp_path) as served, served.connect() as connection:
        connection.sendall(b"slow\n")
        assert connection.recv(10) == b"begun\n"
        for pid in served.workers().values():
            os.kill(pid, signal.SIGINT)
        served.send(signal.SIGINT)
        assert connection.recv(10) == b"done\n"
        assert served.process.wait(10) == 0


def test_a_killed_worker_is_replaced_and_its_queue_is_served(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1) as served:
        before = served.who()[0]
        os.kill(before, signal.SIGSTOP)
        with served.connect() as waiting:  # in the queue of a worker that never accepts it
            waiting.sendall(b"who\n")
            os.kill(before, signal.SIGKILL)
            after = int(waiting.recv(100).split()[0])
        assert after != before
        served.until_said("ended by signal 9; restart at once")


@pytest.mark.parametrize("how", ["stopped", "in a loop"])
def test_a_worker_that_hangs_is_replaced_and_its_queue_is_served(tmp_path: Path, how: str) -> None:
    with serving(tmp_path, "hasty", workers=1) as served:
        before = served.who()[0]
        with served.connect() as hanging, served.connect() as waiting:
            if how == "stopped":
                os.kill(before, signal.SIGSTOP)
            else:
                hanging.sendall(b"spin\n")
            waiting.settimeout(60)
            with suppress(ConnectionError):  # it may have been accepted just before
                waiting.sendall(b"who\n")
                waiting.recv(100)
        until(lambda: served.who()[0] != before, 60)
        served.until_said("has not answered for 3 s and is killed")
        served.until_said("ended by signal 9; restart at once")


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPROF, signal.SIGRTMIN])
def test_a_signal_without_a_meaning_ends_nobody(tmp_path: Path, signum: int) -> None:
    with serving(tmp_path) as served:
        workers = served.workers()
        for pid in workers.values():
            os.kill(pid, signum)
        served.send(signum)
        served.until_said("means nothing to flyby and is ignored")
        assert served.workers() == workers


def a_full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def a_pipe_that_nobody_reads() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("output", [a_full_disk, a_pipe_that_nobody_reads])
def test_standard_output_is_not_needed_for_a_start(tmp_path: Path, output: Callable[[], int]) -> None:
    config = tmp_path / "flyby.toml"
    write(config, workers=1)
    stream = output()
    served = Served(launch(config, output=stream), config)
    os.close(stream)
    try:
        served.started()
        assert served.who()[1] == 0
    finally:
        served.stop()
    assert served.process.returncode == 0
    assert "Traceback" not in served.errors


def test_standard_streams_that_are_closed_are_not_taken_by_sockets(tmp_path: Path) -> None:
    config = tmp_path / "flyby.toml"
    write(config, workers=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    served = Served(launch(config, "closed"), config)
    served.port = port
    try:
        until(lambda: not refused(port))
        assert {os.readlink(f"/proc/{served.process.pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
        assert served.who()[1] == 0
    finally:
        served.stop()
    assert served.process.returncode == 0


def test_the_end_is_said(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        pass
    assert served.errors.endswith(" stopped\n")
    assert served.errors.count("draining") == 1


def test_the_other_worker_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        connections = [served.connect() for _ in range(16)]
        pids = [served.who(each)[0] for each in connections]
        os.kill(pids[0], signal.SIGKILL)
        others = [each for each, pid in zip(connections, pids, strict=True) if pid != pids[0]]
        assert others
        assert {served.who(each)[0] for each in others} == set(pids) - {pids[0]}
        until(lambda: len(served.workers()) == 2)
        for each in connections:
            each.close()


def test_a_worker_that_keeps_dying_is_started_less_and_less(tmp_path: Path) -> None:
    with serving(tmp_path, "crash", workers=1) as served:
        served.until_said("restart in 0.4 s")
        delays = re.findall(r"worker-0 \(pid \d+\) ended with exit code 3; restart in (\S+) s", served.errors)
        assert delays[:3] == ["0.1", "0.2", "0.4"]
        served.send(signal.SIGTERM)
        assert served.process.wait(5) == 0


def test_hup_takes_a_new_configuration_and_keeps_connections(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        connections = [served.connect() for _ in range(8)]
        before = [served.who(each) for each in connections]
        write(served.config, profile="rfc9111")
        served.send(signal.SIGHUP)
        until(lambda: {served.who(each)[2] for each in connections} == {"rfc9111"})
        assert [served.who(each)[:2] for each in connections] == [each[:2] for each in before]
        # A worker that is born later has the new one too.
        os.kill(before[0][0], signal.SIGKILL)
        until(lambda: before[0][0] not in served.workers().values() and len(served.workers()) == 2)
        assert {served.who()[2] for _ in range(20)} == {"rfc9111"}
        for each in connections:
            each.close()


def test_hup_keeps_the_old_configuration_when_the_new_one_is_invalid(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.connect() as connection:
        before = served.who(connection)
        text = served.config.read_text().replace('"default"', '"defualt"').replace("drain_s", "drian_s")
        served.config.write_text(text)
        served.send(signal.SIGHUP)
        served.until_said("keeps the old one")
        assert "flyby.toml:5:" in served.errors  # every problem is told, with its place
        assert "flyby.toml:8:" in served.errors
        assert served.who(connection) == before
        assert set(served.workers()) == {0, 1}


def test_hup_says_what_needs_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        write(served.config, workers=3)
        served.send(signal.SIGHUP)
        served.until_said("server.workers has changed; that takes effect at the next start")


def test_workers_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        workers = served.workers()
        served.process.kill()
        until(lambda: not any(alive(pid) for pid in workers.values()))


def test_an_unusable_configuration_that_only_the_worker_sees(tmp_path: Path) -> None:
    config = tmp_path / "flyby.toml"
    write(config)
    process = launch(config, "fail")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 78
    assert "edge.toml:3:1: the CA file is not there" in errors


def test_an_address_in_use_is_one_clear_line(tmp_path: Path) -> None:
    config = tmp_path / "flyby.toml"
    write(config)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config.write_text(config.read_text().replace("127.0.0.1:0", address))
        process = launch(config)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 75
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert f"cannot listen on {address}: the address is in use" in errors


def test_two_flybys_do_not_share_a_port(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        second = tmp_path / "second.toml"
        second.write_text(served.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{served.port}"))
        process = launch(second)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 75
        assert "in use" in errors


def test_an_edge_without_a_backend_says_so_and_serves_no_demo(tmp_path: Path) -> None:
    config = tmp_path / "flyby.toml"
    config.write_text('[server]\nlisten = ["127.0.0.1:0"]\nworkers = 1\n[cache]\nsize = "8MiB"\n')
    served = Served(launch(config), config)
    try:
        served.started()
        served.who()  # it has its name by now
        children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
        assert [Path(f"/proc/{pid}/comm").read_text() for pid in children] == ["flyby-worker-0\n"]
        served.send(signal.SIGHUP)  # as empty as before: nothing is lost by it
        served.until_said("configuration reloaded")
    finally:
        served.stop()
    assert "no backend is configured yet" in served.errors


def test_the_demo_app_is_a_process_that_is_restarted(tmp_path: Path) -> None:
    config = tmp_path / "flyby.toml"
    config.write_text('[server]\nlisten = ["127.0.0.1:0"]\nworkers = 1\n[cache]\nsize = "8MiB"\n')
    served = Served(launch(config, "demo"), config)
    try:
        served.started()
        children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children")

        def demos() -> list[int]:
            pids = [int(each) for each in children.read_text().split()]
            return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "flyby-demo\n"]

        until(lambda: len(demos()) == 1)
        first = demos()[0]
        os.kill(first, signal.SIGKILL)
        until(lambda: demos() not in ([], [first]))
    finally:
        served.stop()
    assert served.process.returncode == 0
