"""An app is connected: the buildpack is fetched from the edge, built, booted, and served; then its `web` is renamed.

Everything is real but Heroku itself (see `heroku.py`): the edge is `flyby serve`, tokens come from the command line,
the slug from a commit and the scripts, the dyno from bash, the agent from the archive that the edge serves.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge import PACKAGES, ServedEdge, served
from tests.heroku import apps
from tests.heroku.conftest import Distribution, Platform
from tests.heroku.heroku import Dyno, Slug, unpack, without_python

CONNECTED_S = 20.0
EVERY_WORKER = 12  # connections; the chance that one of two workers gets none is one in two thousand
NOWHERE = "http://127.0.0.1:9"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Network:
    """An edge with a state of its own, the platform in front of which it stands, and the dynos that were booted."""

    def __init__(self, folder: Path, python: Distribution, edge: ServedEdge, state: Path) -> None:
        self.edge = edge
        self.state = state
        archive = self.get("/.flyby/buildpack.tgz")
        assert archive.status == 200
        self.platform = Platform(folder, unpack(archive.body, folder / "pack"), python)
        self.dynos: list[Dyno] = []

    def flyby(self, *arguments: str) -> dict[str, str]:
        """A command of flyby's, and the JSON that it writes."""
        done = subprocess.run(
            [sys.executable, "-m", "flyby", *arguments, "--state", str(self.state), "--json"],
            env={"PYTHONPATH": PACKAGES, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def backend(self, name: str) -> str:
        """Adds a backend; its token."""
        return self.flyby("backend", "add", name)["token"]

    def boot(self, slug: Slug, app: dict[str, str], dyno: str, port: int | None) -> Dyno:
        booted = slug.boot(apps.command(app), dyno, port)
        self.dynos.append(booted)
        return booted

    def get(self, path: str, host: str = "", method: str = "GET", content: bytes | None = None) -> Answer:
        connection = http.client.HTTPConnection(*self.edge.address, timeout=10)
        try:
            connection.request(method, path, content, {"Host": host or f"127.0.0.1:{self.edge.port}"})
            response = connection.getresponse()
            return Answer(response.status, response.read(), response.getheader("Cache-Status") or "")
        finally:
            connection.close()

    def until_served(self, name: str, path: str = "/", within_s: float = CONNECTED_S) -> Answer:
        """What the app answers, once it has so often in a row that every worker of the edge must have been asked."""
        deadline = time.monotonic() + within_s
        in_a_row = 0
        while True:
            answer = self.get(path, f"{name}.preview.localhost")
            in_a_row = in_a_row + 1 if answer.status == 200 else 0
            if in_a_row == EVERY_WORKER:
                return answer
            if time.monotonic() > deadline:
                said = "".join(dyno.said() for dyno in self.dynos)
                raise AssertionError(f"{answer}\n{said}\n{self.edge.said()}")
            time.sleep(0 if in_a_row else 0.05)


class Answer:
    """What a client got."""

    def __init__(self, status: int, body: bytes, cache_status: str) -> None:
        self.status = status
        self.body = body
        self.cache_status = cache_status

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.cache_status} {self.body[:200]!r}>"


class Load:
    """A few clients that GET from the app, one request after another, and remember what they got."""

    clients = 4

    def __init__(self, network: Network) -> None:
        self.network = network
        self.answers: list[bytes] = []
        self.failures: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                answer = self.network.get("/page", "app.preview.localhost")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            else:
                if answer.status == 200 and answer.body.endswith(b" /page"):
                    self.answers.append(answer.body)
                else:
                    self.failures.append(repr(answer))

    def pids(self) -> set[bytes]:
        """The app's processes that have answered."""
        return {body.split()[1] for body in self.answers}

    def until_new(self, seen: set[bytes], number: int = 1) -> None:
        """Goes on until so many processes have answered that are not in `seen`."""
        deadline = time.monotonic() + CONNECTED_S
        while len(self.pids() - seen) < number:
            assert time.monotonic() < deadline, f"no new dyno answers; {self.failures[-3:]}"
            time.sleep(0.02)

    def run_for(self, seconds: float) -> None:
        self._stopping.wait(seconds)


@pytest.fixture
def network(tmp_path: Path, python: Distribution) -> Iterator[Network]:
    state = tmp_path / "state"
    # A backend of its own for every other name, so that no answer can be taken for the app's.
    with served("--state", str(state), "--origin", NOWHERE, workers=2) as edge:
        network = Network(tmp_path, python, edge, state)
        try:
            yield network
        finally:
            for dyno in network.dynos:
                dyno.stop(signal.SIGKILL)


APPS = {"python": apps.PYTHON, "node": apps.NODE, "static": apps.STATIC}


@pytest.mark.parametrize("name", APPS)
def test_an_app_of_any_language_is_connected_by_a_buildpack_and_a_token(network: Network, name: str) -> None:
    app = APPS[name]
    slug = network.platform.slug(app, name)
    if name == "node":
        # A dyno of heroku-24: no Python anywhere on PATH, in the build or at the boot.
        slug.path = without_python(network.platform.folder / "bin", "node")
    built = slug.compile(SOURCE_VERSION="1c0ffee")
    assert built.returncode == 0, built.stderr
    slug.config = {"FLY_TOKEN": network.backend(name)}
    network.boot(slug, app, "web.1", free_port())

    first = network.until_served(name)
    assert first.body.startswith({"static": b"<!doctype"}.get(name, name.encode()))
    if name == "static":
        network.until_served(name, "/style.css")
        assert "hit" in network.get("/style.css", f"{name}.preview.localhost").cache_status
    else:
        taken = network.get("/basket", f"{name}.preview.localhost", "POST", b"two of them")
        assert taken.body == f"{name} took two of them".encode()


@pytest.mark.parametrize("name", APPS)
def test_a_renamed_process_is_reached_through_the_edge_alone(network: Network, name: str) -> None:
    app = apps.renamed(APPS[name])
    slug = network.platform.slug(app, name)
    built = slug.compile(SOURCE_VERSION="1c0ffee")
    assert built.returncode == 0, built.stderr
    assert "flyby.sh starts the agent in: web app" in built.stdout
    # The platform gives this type no port and publishes none; the config var keeps dynos of one machine apart.
    slug.config = {"FLY_TOKEN": network.backend(name), "PORT": str(free_port())}
    dyno = network.boot(slug, app, "app.1", None)
    assert not dyno.published
    assert network.until_served(name).status == 200


def test_the_first_aid_of_the_documentation_works(network: Network) -> None:
    slug = network.platform.slug(apps.PYTHON)
    assert slug.compile(SOURCE_VERSION="1c0ffee").returncode == 0
    slug.config = {"FLY_TOKEN": network.backend("app")}
    dyno = slug.boot(".flyby/bin/flyby-agent diagnose", "run.8213")
    network.dynos.append(dyno)
    assert dyno.process.wait(CONNECTED_S) == 0, dyno.said()
    verdicts = {line.split()[1]: line.split()[0] for line in dyno.said().splitlines()}
    assert (verdicts["token"], verdicts["round"], verdicts["app"]) == ("ok", "ok", "--")


@pytest.mark.parametrize("types", ["none", ""])
def test_an_app_under_the_agent_is_connected_as_documented(network: Network, types: str) -> None:
    app = apps.PYTHON | {"Procfile": "app: .flyby/bin/flyby-agent -- python3 app.py\n"}
    slug = network.platform.slug(app)
    assert slug.compile(SOURCE_VERSION="1c0ffee").returncode == 0
    # Two dynos of one machine would share the port that a dyno has for itself.
    slug.config = {"FLY_TOKEN": network.backend("app"), "FLY_PORT": str(free_port())}
    slug.config |= {"FLY_PROCESS_TYPES": types} if types else {}
    dyno = network.boot(slug, app, "app.1", None)
    assert network.until_served("app").status == 200
    assert dyno.said().count("fly: agent ") == 1
    dyno.stop()
    assert dyno.process.returncode == 128 + signal.SIGTERM


def test_what_is_configured_at_boot_reaches_the_state(network: Network) -> None:
    slug = network.platform.slug(apps.PYTHON)
    assert slug.compile(SOURCE_VERSION="1c0ffee").returncode == 0
    slug.config = {"FLY_TOKEN": network.backend("app")}
    network.boot(slug, apps.PYTHON, "web.1", free_port())
    network.until_served("app")
    shown = network.flyby("backend", "show", "app")
    assert "1c0ffee" in json.dumps(shown)


def test_a_deploy_replaces_dynos_one_by_one_and_no_request_fails(network: Network) -> None:
    slug = network.platform.slug(apps.NODE)
    assert slug.compile(SOURCE_VERSION="1c0ffee").returncode == 0
    slug.config = {"FLY_TOKEN": network.backend("app")}
    old = [network.boot(slug, apps.NODE, f"web.{number}", free_port()) for number in (1, 2)]
    network.until_served("app")
    with Load(network) as load:
        load.until_new(set(), 2)
        for number, dyno in enumerate(old, 1):
            seen = load.pids()
            network.boot(slug, apps.NODE, f"web.{number}0", free_port())
            load.until_new(seen)
            dyno.stop()
    assert load.failures == []
    assert len(load.answers) > 50


def test_a_killed_dyno_is_missed_by_nobody_for_long(network: Network) -> None:
    slug = network.platform.slug(apps.NODE)
    assert slug.compile().returncode == 0
    slug.config = {"FLY_TOKEN": network.backend("app")}
    first, _ = (network.boot(slug, apps.NODE, f"web.{number}", free_port()) for number in (1, 2))
    network.until_served("app")
    with Load(network) as load:
        load.until_new(set(), 2)
        first.stop(signal.SIGKILL)
        load.run_for(3)
    # A GET that had no answer yet is given to the other dyno; one that was half answered cannot be.
    assert len(load.failures) <= load.clients


def test_everything_heals_when_the_edge_starts_again(network: Network, tmp_path: Path, python: Distribution) -> None:
    slug = network.platform.slug(apps.NODE)
    assert slug.compile().returncode == 0
    slug.config = {"FLY_TOKEN": network.backend("app")}
    network.boot(slug, apps.NODE, "web.1", free_port())
    network.until_served("app")
    port = network.edge.port
    assert network.edge.stop() == 0
    with served("--state", str(network.state), "--origin", NOWHERE, "--listen", f"127.0.0.1:{port}") as edge:
        network.edge = edge
        network.until_served("app", within_s=10)
