"""The edge's image, built and run: by Docker where it is, else its steps in an empty folder and a clean environment.

It compiles all of flyby, which takes minutes: only where FLYBY_BUILD_IMAGE is set (`tox -e image`).
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy import dockerfile

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples/edge/Dockerfile"
BUILT_S = 1800

pytestmark = [
    pytest.mark.timeout(2 * BUILT_S),
    pytest.mark.skipif("FLYBY_BUILD_IMAGE" not in os.environ, reason="compiles everything: set FLYBY_BUILD_IMAGE"),
]


def docker() -> str | None:
    found = shutil.which("docker")
    if found is None or subprocess.run([found, "info"], capture_output=True).returncode != 0:
        return None
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def status(port: int, host: str, running: Callable[[], bool]) -> int:
    """What the edge on `port` answers for `host`, once it listens."""
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/", headers={"Host": host})
            return connection.getresponse().status
        except OSError:
            assert running(), "the edge has ended"
            assert time.monotonic() < deadline, "the edge does not answer"
            time.sleep(0.1)
        finally:
            connection.close()


@pytest.mark.skipif(docker() is not None, reason="Docker is here, and builds the image itself")
def test_the_steps_of_the_image_make_an_edge_that_runs(tmp_path: Path) -> None:
    steps = dockerfile.read(FILE)
    source, wheels, root = tmp_path / "src", tmp_path / "wheels", tmp_path / "root"
    # COPY . . with the ignore file: what it lets through.
    source.mkdir()
    for line in FILE.with_suffix(".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            target = source / line[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / line[1:]).is_dir():
                built = shutil.ignore_patterns("*.c", "*.so", "__pycache__", "*.egg-info")
                shutil.copytree(ROOT / line[1:], target, ignore=built)
            else:
                shutil.copy(ROOT / line[1:], target)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(command: str, folder: Path) -> None:
        command = command.replace("/wheels", str(wheels))
        done = subprocess.run(["sh", "-ec", command], cwd=folder, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    subprocess.run([sys.executable, "-m", "venv", str(root)], check=True)
    clean["PATH"] = f"{root}/bin:{clean['PATH']}"
    run(dockerfile.step(steps, "pip wheel"), source)
    run(dockerfile.step(steps, "pip install"), tmp_path)

    config = tmp_path / "flyby.toml"
    port = free_port()
    config.write_text((source / "examples/edge/flyby.toml").read_text().replace('":80"', f'"127.0.0.1:{port}"'))
    state = {**clean, "STATE_DIRECTORY": str(tmp_path / "state")}
    flyby = str(root / "bin/flyby")
    added = subprocess.run(
        [flyby, "backend", "add", "shop", "-c", str(config)], env=state, capture_output=True, text=True
    )
    assert added.returncode == 0, added.stderr
    edge = subprocess.Popen([flyby, "serve", "-c", str(config)], cwd=tmp_path, env=state)
    try:
        alive = lambda: edge.poll() is None  # noqa: E731
        assert status(port, "shop.preview.example.com", alive) == 503  # known, and no dyno is connected
        assert status(port, "nobody.example.com", alive) == 404
    finally:
        edge.terminate()
        assert edge.wait(60) == 0


@pytest.mark.skipif(docker() is None, reason="no Docker here: its steps are tried without it")
def test_docker_builds_and_runs_the_image() -> None:
    program = docker()
    assert program is not None
    name = f"flyby-test-{os.getpid()}"
    subprocess.run([program, "build", "-q", "-f", FILE, "-t", name, ROOT], check=True, timeout=BUILT_S)
    port = free_port()
    run = [program, "run", "-d", "--rm", "--name", name, "--shm-size", "1g", "-p", f"127.0.0.1:{port}:80", name]
    subprocess.run(run, check=True, capture_output=True)
    try:
        inspect = [program, "inspect", name]
        alive = lambda: subprocess.run(inspect, capture_output=True).returncode == 0  # noqa: E731
        assert status(port, "nobody.example.com", alive) == 404
        added = subprocess.run(
            [program, "exec", name, "flyby", "backend", "add", "shop"], capture_output=True, text=True
        )
        assert added.returncode == 0, added.stderr
        assert "shop.preview.example.com" in added.stdout
        assert "No edge" not in added.stdout
    finally:
        subprocess.run([program, "stop", "--time", "60", name], check=True, capture_output=True)
        subprocess.run([program, "image", "rm", name], check=True, capture_output=True)
