"""Agents as processes behind an edge as processes: deploys, deaths and restarts under load, and what fails of it.

An agent and its app are a dyno; the load is a few clients that ask again and again on kept connections, and count what
is not answered as it should be.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyby.control import State
from tests.agent.dyno import AgentProcess, FakeApp, answer
from tests.edge import ServedEdge, served

HEALED_S = 10.0
CONFIG = """
[server]
log = "off"
[server.timeouts]
drain_s = 3
[backends.app]
tunnel = true
[[routes]]
backend = "app"
cache.off = CACHE_OFF
"""
# Two ways of a miss: passed on by the route, or by a mark that the response may not be stored, on the fast lane.
WAYS = pytest.mark.parametrize("town", ["true", "false"], indirect=True, ids=["cache off", "marked"])


class Town:
    """An edge of two workers, its token, and the dynos behind it."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, cache_off: str = "true") -> None:
        self.stack = stack
        self._config = CONFIG.replace("CACHE_OFF", cache_off)
        self.state = str(directory / "state")
        with State.open(self.state) as state:
            _, self.token = state.add_backend("app")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._serving = contextlib.ExitStack()
        stack.push(self._serving)
        self.edge = self.open_edge()

    def open_edge(self) -> ServedEdge:
        options = ("--state", self.state, "--listen", f"127.0.0.1:{self.port}")
        self.edge = self._serving.enter_context(served(*options, config=self._config, workers=2))
        return self.edge

    def close_edge(self) -> None:
        self._serving.close()

    def workers(self) -> list[int]:
        pid = self.edge.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def dyno(self, name: str, app: FakeApp | None = None, **environment: str) -> tuple[AgentProcess, FakeApp]:
        app = app or FakeApp(answer(name.encode()))
        self.stack.callback(app.stop)
        agent = AgentProcess(
            environment={
                "FLY_TOKEN": self.token,
                "FLY_REMOTE_ENDPOINT": f"http://127.0.0.1:{self.port}",
                "FLY_PORT": str(app.port),
                "FLY_RELEASE_ID": "v1",
                "DYNO": name,
                **environment,
            }
        )
        self.stack.callback(agent.stop)
        return agent, app

    def ask(self, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, "/", headers={"Host": "shop.test"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def until_all_answer(self, bodies: set[bytes]) -> float:
        """Until forty requests, eight at a time, are answered by just these dynos; how long it took."""
        started = time.monotonic()
        seen: list[tuple[int, bytes]] = []
        with ThreadPoolExecutor(8) as pool:
            while time.monotonic() - started < 2 * HEALED_S:
                seen = list(pool.map(self._ask_anyway, range(40)))
                if {status for status, _ in seen} == {200} and {body for _, body in seen} == bodies:
                    return time.monotonic() - started
                time.sleep(0.05)
        raise AssertionError(f"{Counter(seen)}\n{self.edge.said()}")

    def _ask_anyway(self, number: int) -> tuple[int, bytes]:
        try:
            return self.ask()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error).encode()


class Load:
    """Clients in threads; `failed` counts what was not a 200, by what it was."""

    def __init__(self, town: Town, clients: int = 6, method: str = "GET") -> None:
        self._town = town
        self._method = method
        self._stop = threading.Event()
        self.good = 0
        self.bodies: Counter[bytes] = Counter()
        self.failed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._town.port, timeout=15)
        while not self._stop.is_set():
            try:
                connection.request(self._method, "/", headers={"Host": "shop.test"})
                response = connection.getresponse()
                body = response.read()
                what = "" if response.status == 200 else str(response.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                what, body = type(error).__name__, b""
            with self._lock:
                if what:
                    self.failed[what] += 1
                else:
                    self.good += 1
                    self.bodies[body] += 1
            if what:
                time.sleep(0.02)
        connection.close()

    def stop(self) -> Load:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        return self


@pytest.fixture
def town(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Town]:
    with contextlib.ExitStack() as stack:
        yield Town(stack, tmp_path, getattr(request, "param", "true"))


@WAYS
def test_two_dynos_are_replaced_one_by_one_and_no_request_fails(town: Town) -> None:
    old = [town.dyno(f"old.{number}") for number in (1, 2)]
    town.until_all_answer({b"old.1", b"old.2"})
    load = Load(town)
    posts = Load(town, clients=2, method="POST")
    new = []
    for number, (agent, app) in enumerate(old, 1):
        new.append(town.dyno(f"new.{number}", FLY_RELEASE_ID="v2"))
        left = {f"old.{each}".encode() for each in range(number, 3)}
        town.until_all_answer(left | {f"new.{each}".encode() for each in range(1, number + 1)})
        agent.send_signal(signal.SIGTERM)
        assert agent.wait() == 0
        app.stop()
    town.until_all_answer({b"new.1", b"new.2"})
    load.stop()
    posts.stop()
    assert (load.failed, posts.failed) == ({}, {})
    assert load.good > 100
    with State.open(town.state) as state:
        assert {release.id for release in state.releases("app") if release.first_ready_ms} == {"v1", "v2"}


def test_every_worker_is_served_without_an_extra_hop(town: Town) -> None:
    town.dyno("web.1")
    town.until_all_answer({b"web.1"})
    # Each registers it for itself, and asks over links of its own; until then it waits for what another has met.
    ready = [rf"{worker}\] INFO app: dyno web\.1 \(\w+\) is ready" for worker in ("worker-0", "worker-1")]
    deadline = time.monotonic() + 20
    while not all(re.search(each, town.edge.said()) for each in ready):
        assert time.monotonic() < deadline, town.edge.said()
        time.sleep(0.05)
    connected = Counter(
        line.split()[2].rpartition(":")[2]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1] == f"0100007F:{town.port:04X}" and line.split()[3] == "01"
    )
    assert len(connected) >= 2 * (1 + 8)  # for each worker a control connection and the links it has asked for


@WAYS
def test_a_dyno_that_is_killed(town: Town) -> None:
    killed, _ = town.dyno("web.1")
    town.dyno("web.2")
    town.until_all_answer({b"web.1", b"web.2"})
    load = Load(town)
    time.sleep(0.3)
    killed.process.kill()
    healed = town.until_all_answer({b"web.2"})
    load.stop()
    assert load.failed == {}
    assert healed < HEALED_S


@WAYS
def test_an_app_that_refuses_and_comes_back(town: Town) -> None:
    _, app = town.dyno("web.1")
    town.dyno("web.2")
    town.until_all_answer({b"web.1", b"web.2"})
    load = Load(town)
    posts = Load(town, clients=2, method="POST")
    time.sleep(0.2)
    port = app.port
    app.stop()
    town.until_all_answer({b"web.2"})
    refused_posts = Counter(posts.failed)
    FakeApp(answer(b"back"), port)
    healed = town.until_all_answer({b"back", b"web.2"})
    load.stop()
    posts.stop()
    assert load.failed == {}
    # A POST that the app had begun to read when it went down must not be sent twice; each client can lose one.
    assert set(refused_posts) <= {"502"}
    assert posts.failed.total() <= 2
    assert healed < HEALED_S


def test_a_worker_of_the_edge_that_is_killed(town: Town) -> None:
    town.dyno("web.1")
    town.until_all_answer({b"web.1"})
    load = Load(town, clients=6)
    time.sleep(0.2)
    before = town.workers()
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(town.workers()) == 2 and town.workers() != before)
    healed = town.until_all_answer({b"web.1"})
    load.stop()
    # What fails is what was under way in the worker, one request for each of its connections.
    assert set(load.failed) <= {"RemoteDisconnected", "ConnectionResetError", "BadStatusLine", "IncompleteRead"}
    assert load.failed.total() <= 6
    assert healed < HEALED_S


def test_an_edge_that_is_started_again(town: Town) -> None:
    agent, _ = town.dyno("web.1")
    town.until_all_answer({b"web.1"})
    load = Load(town, clients=4)
    time.sleep(0.2)
    town.close_edge()
    town.open_edge()
    healed = town.until_all_answer({b"web.1"})
    load.stop()
    assert healed < HEALED_S
    # While nobody listens, connections are refused; whatever got an answer got the right one.
    assert set(load.failed) <= {"ConnectionRefusedError", "RemoteDisconnected", "ConnectionResetError"}
    assert agent.process.poll() is None


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
