"""`flyby serve` with a cache that outlives it: stopped, killed, started twice, started with something else in mind."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyby.store._pack import packed
from tests.edge import PACKAGES, ServedEdge, served

COUNT = 2000


def body_of(path: str) -> bytes:
    return (path.encode() + b" ") * (1 + int(path.rpartition("/")[2]) % 300)


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        body = body_of(self.path)
        head = f"HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[int]:
    """The port of an origin that counts what it is asked."""
    Origin.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def config(origin: int, tmp_path: Path) -> str:
    return (
        f'[cache]\nsize = "16MiB"\npath = "{tmp_path}/cache"\n'
        f'[backends.app]\norigins = ["http://127.0.0.1:{origin}"]\n'
        '[server]\nlog = "off"\n[server.timeouts]\ndrain_s = 2\n'
    )


def fetch(edge: ServedEdge) -> None:
    """Every object once, over one connection, each byte looked at."""
    client = http.client.HTTPConnection(*edge.address, timeout=20)
    with contextlib.closing(client):
        for number in range(COUNT):
            client.request("GET", f"/{number}", headers={"Host": "shop.test"})
            response = client.getresponse()
            assert (response.status, response.read()) == (200, body_of(f"/{number}"))


def get(edge: ServedEdge, path: str) -> bytes:
    client = http.client.HTTPConnection(*edge.address, timeout=20)
    with contextlib.closing(client):
        client.request("GET", path, headers={"Host": "shop.test"})
        return client.getresponse().read()


def family(root: int) -> list[int]:
    """The process and its children."""
    return [root, *map(int, Path(f"/proc/{root}/task/{root}/children").read_text().split())]


def test_a_cache_outlives_a_stop_and_a_kill_of_the_whole_family(config: str) -> None:
    with served(config=config, workers=2) as edge:
        fetch(edge)
        assert Origin.asked == COUNT
        assert edge.stop() == 0
    for ending in (signal.SIGKILL, signal.SIGTERM):
        with served(config=config, workers=2) as edge:
            assert re.search(rf"INFO the cache in .*/cache is kept, with {COUNT} objects\n", edge.said())
            fetch(edge)
            assert Origin.asked == COUNT
            if ending == signal.SIGKILL:
                for pid in family(edge.process.pid):
                    os.kill(pid, signal.SIGKILL)
                edge.process.wait()
    for change in (('"16MiB"', '"17MiB"', "bytes"), ("[cache]", '[cache]\nprofile = "rfc9111"', "other rules")):
        config = config.replace(*change[:2])
        with served(config=config, workers=2) as edge:
            assert re.search(rf"WARNING the cache in .*/cache is dropped: .*{change[2]}", edge.said())
            assert edge.said().count("dropped") == 1


def test_a_second_flyby_on_a_live_cache_is_one_clear_error(config: str, tmp_path: Path) -> None:
    file = tmp_path / "flyby.toml"
    file.write_text(config)
    with served(config=config) as edge:
        second = subprocess.run(
            [sys.executable, "-m", "flyby", "serve", "--listen", "127.0.0.1:0", "--workers", "1", "-c", str(file)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "PYTHONPATH": PACKAGES},
        )
        assert second.returncode == os.EX_TEMPFAIL
        assert second.stdout == ""
        assert second.stderr.count("\n") == 1
        assert f"/cache is in use by another flyby (process {edge.process.pid})" in second.stderr
        client = http.client.HTTPConnection(*edge.address, timeout=20)
        client.request("GET", "/7")
        assert client.getresponse().read() == body_of("/7")
        client.close()


def test_a_body_that_cannot_be_read_is_fetched_again(config: str, tmp_path: Path) -> None:
    """A kept cache on a bad disk: what does not unpack is no answer, nor a reason to give none."""
    with served(config=config) as edge:
        # It is packed once it has been asked for again.
        assert get(edge, "/299") == body_of("/299")
        assert get(edge, "/299") == body_of("/299")
    file = tmp_path / "cache"
    data = file.read_bytes()
    compressed = packed(body_of("/299"))
    assert compressed is not None
    with open(file, "r+b") as damaged:
        damaged.seek(data.index(compressed) + 4)
        damaged.write(b"\xff" * (len(compressed) - 4))
    asked = Origin.asked
    with served(config=config) as edge:
        assert get(edge, "/299") == body_of("/299")
        assert get(edge, "/299") == body_of("/299")
        assert Origin.asked == asked + 1
        assert "is dropped: a stored body does not decompress" in edge.said()
