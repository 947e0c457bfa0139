"""`flyby purge` against a running edge of two workers, and its manners when there is none, or no permission."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flyby.cli import main
from tests.edge import ServedEdge, served

SECRET = "open-sesame"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(("purge", *arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


class Tagged(http.server.BaseHTTPRequestHandler):
    """Answers every path with its last segment as its tag."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (("Cache-Control", "max-age=60"), ("Surrogate-Key", self.path.rpartition("/")[2] or "none")):
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_PURGE(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        return


@contextmanager
def origin() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tagged)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def edge() -> Iterator[ServedEdge]:
    with origin() as url:
        config = f'[server]\nlog = "off"\n[server.purge]\nsecret = "{SECRET}"\n[backends.app]\norigins = ["{url}"]\n'
        with served(config=config, workers=2) as running:
            yield running


def fill(edge: ServedEdge, *paths: str) -> None:
    """Have each path stored: a client may have its whole answer a moment before the store has."""
    for path in paths:
        connection = http.client.HTTPConnection(*edge.address, timeout=10)
        connection.request("GET", path, headers={"Host": "shop.test"})
        assert connection.getresponse().read() == b"ok"
        connection.close()
        while not hits(edge, path):
            time.sleep(0.01)


def hits(edge: ServedEdge, *paths: str) -> list[str]:
    found = []
    for path in paths:
        connection = http.client.HTTPConnection(*edge.address, timeout=10)
        connection.request("GET", path, headers={"Host": "shop.test", "Cache-Control": "only-if-cached"})
        response = connection.getresponse()
        response.read()
        connection.close()
        if (response.getheader("Cache-Status") or "").startswith("flyby; hit; ttl=5"):
            found.append(path)
    return found


PATHS = ("/red", "/a/red", "/a/blue", "/b")


@pytest.mark.parametrize(
    ("arguments", "said", "left"),
    [
        (("http://shop.test/red",), "purged 1 response\n", PATHS[1:]),
        (("shop.test/red", "--soft"), "outdated 1 response\n", PATHS[1:]),
        (("--tag", "red"), "red: purged 2\n", PATHS[2:]),
        (
            ("--tag", "red", "--tag", "b", "--soft"),
            "red: outdated 2\nb: outdated 1\noutdated 3 responses\n",
            ("/a/blue",),
        ),
        (("--prefix", "https://shop.test/a"), "purged 2 responses\n", ("/red", "/b")),
        (("--host", "shop.test"), "purged 4 responses\n", ()),
        (("--host", "other.test"), "purged 0 responses\n", PATHS),
        (("--all",), "purged 4 responses\n", ()),
        (("--all", "--json"), '{"purged": 4}\n', ()),
        (("--json", "--tag", "b"), '{"purged": 1, "tags": {"b": 1}}\n', PATHS[:3]),
    ],
)
def test_what_is_purged(
    edge: ServedEdge,
    arguments: tuple[str, ...],
    said: str,
    left: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("--all", "--edge", edge.url, "--secret", SECRET)
    fill(edge, *PATHS)
    capsys.readouterr()
    assert run(*arguments, "--edge", edge.url, "--secret", SECRET) == 0
    out, err = capsys.readouterr()
    assert out == said
    assert ("nothing is stored under other.test:" in err) if "purged 0" in said else not err
    assert tuple(hits(edge, *PATHS)) == left


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ("http://shop.test:81/red",),
            "nothing is stored under shop.test:81/red: the host must be the one that clients name",
        ),
        (("shop.test/red?x=1",), "nothing is stored under shop.test/red?x=1: the host"),
        (("--prefix", "shop.test/c"), "nothing is stored under shop.test/c or below it: the host"),
        (("--tag", "gone"), "no stored response has such a tag (Surrogate-Key, Cache-Tag)"),
    ],
)
def test_why_nothing_was_purged(
    edge: ServedEdge, arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(edge, *PATHS)
    assert run(*arguments, "--edge", edge.url, "--secret", SECRET) == 0
    out, err = capsys.readouterr()
    assert "purged 0" in out
    assert err.startswith(f"flyby purge: {why}")


def test_an_empty_cache_is_named_as_the_reason(edge: ServedEdge, capsys: pytest.CaptureFixture[str]) -> None:
    run("--all", "--edge", edge.url, "--secret", SECRET)
    capsys.readouterr()
    assert run("--all", "--edge", edge.url, "--secret", SECRET) == 0
    assert capsys.readouterr() == ("purged 0 responses\n", "flyby purge: the cache holds nothing\n")


def test_edge_and_secret_come_from_its_configuration(
    edge: ServedEdge, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "flyby.toml"
    listen = f'[server]\nlisten = ["0.0.0.0:{edge.port}"]\n'
    file.write_text(listen + f'[server.purge]\nsecret = "{SECRET}"\n')
    assert run("--all", "-c", str(file), "--json") == 0
    assert "purged" in json.loads(capsys.readouterr().out)
    file.write_text(listen)
    assert run("--all", "-c", str(file)) == 77
    monkeypatch.setenv("FLYBY_PURGE_SECRET", SECRET)
    assert run("--all", "-c", str(file)) == 0
    file.write_text("[server]\nlistn = 3\n")
    capsys.readouterr()
    assert run("--all", "-c", str(file)) == 78
    assert "listn" in capsys.readouterr().err


@pytest.mark.parametrize("secret", [(), ("--secret", "wrong")])
def test_without_permission(edge: ServedEdge, secret: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--all", "--edge", edge.url, *secret) == 77
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flyby purge: not permitted")


def test_when_nobody_is_there_or_somebody_else(capsys: pytest.CaptureFixture[str]) -> None:
    with origin() as url:
        assert run("--all", "--edge", url) == 76
        assert capsys.readouterr().err == f"flyby purge: what answers at {url} is not flyby\n"
    assert run("--all", "--edge", url) == 69
    assert capsys.readouterr().err.startswith(f"flyby purge: no edge answers at {url}: Connection refused; ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give one of URL, --tag, --prefix, --host and --all"),
        (("--all", "--tag", "a"), "give one of URL, --tag, --prefix, --host and --all"),
        (("http://a/", "--all"), "give one of URL, --tag, --prefix, --host and --all"),
        (("ftp://a/",), "'ftp://a/' is not a URL: write http://HOST/PATH"),
        (("http:///a",), "is not a URL"),
        (("http://a/ b",), "is not a URL"),
        (("http://a:99999/",), "is not a URL"),
        (("--tag", "a b"), "'a b' is not a tag"),
        (("--tag", ""), "'' is not a tag"),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
