"""The demo app: what each page lets a cache do, and the app as a process of its own."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Iterator

import pytest

from flyby.demo import Demo
from flyby.demo.app import Answer, App, Request


def ask(app: App, path: bytes, method: bytes = b"GET", **fields: bytes) -> Answer:
    return app.answer(Request(method, path, {name.replace("_", "-").encode(): value for name, value in fields.items()}))


def field(answer: Answer, name: bytes) -> bytes | None:
    return dict(answer.fields).get(name)


@pytest.mark.parametrize(
    ("path", "cache"),
    [
        (b"/", b"public, max-age=10, stale-while-revalidate=30, stale-if-error=600"),
        (b"/news", b"public, max-age=2, stale-if-error=600"),
        (b"/slow", b"public, max-age=10"),
        (b"/account", b"private, max-age=60"),
        (b"/assets/style.7d1f.css", b"public, max-age=31536000, immutable"),
        (b"/assets/logo.svg", b"no-cache"),
        (b"/demo/counter", b"no-store"),
    ],
)
def test_what_each_page_allows(path: bytes, cache: bytes) -> None:
    answer = ask(App(), path)
    assert (answer.status, field(answer, b"Cache-Control")) == (200, cache)


@pytest.mark.parametrize("path", [b"/assets/style.7d1f.css", b"/assets/logo.svg"])
def test_assets_are_revalidated(path: bytes) -> None:
    app = App()
    etag = field(ask(app, path), b"ETag")
    assert etag is not None
    for condition in (etag, b"W/" + etag, b'"other", ' + etag, b"*"):
        again = ask(app, path, if_none_match=condition)
        assert (again.status, again.body, field(again, b"ETag")) == (304, b"", etag)
    assert ask(app, path, if_none_match=b'"other"').status == 200


def test_the_counter_leaves_itself_out() -> None:
    app = App()
    for path in (b"/", b"/news", b"/nowhere", b"/demo/counter"):
        ask(app, path)
    assert ask(app, b"/demo/counter").body == b"3\n"


def test_news_fails_on_demand() -> None:
    app = App()
    assert ask(app, b"/demo/break").status == 405  # a crawler that follows links switches nothing
    assert ask(app, b"/news").status == 200
    ask(app, b"/demo/break", b"POST")
    assert (ask(app, b"/news").status, ask(app, b"/").status) == (503, 200)
    ask(app, b"/demo/mend", b"POST")
    assert ask(app, b"/news").status == 200


def test_a_copy_is_known_for_a_copy() -> None:
    app = App(now=lambda: 1_800_000_000.0)
    first, second = ask(app, b"/").body, ask(app, b"/").body
    assert b"08:00:00 UTC, for request number 1." in first
    assert b"for request number 2." in second


@pytest.fixture
def demo() -> Iterator[Demo]:
    made = Demo.open()
    pid = os.fork()
    if not pid:
        os._exit(made.serve())
    yield made
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    made.close()


def test_served_over_http(demo: Demo) -> None:
    client = http.client.HTTPConnection(demo.origin.removeprefix("http://"), timeout=10)
    for method, path, status in (
        ("GET", "/?x=1", 200),
        ("HEAD", "/assets/logo.svg", 200),
        ("POST", "/demo/break", 200),
        ("GET", "/news", 503),
        ("GET", "/none", 404),
        ("POST", "/", 405),
    ):
        client.request(method, path, body=b"x" * 100_000 if method == "POST" else None)
        response = client.getresponse()
        body = response.read()
        assert response.status == status
        assert (body == b"") == (method == "HEAD")
        assert response.getheader("Date", "").endswith(" GMT")
    etag = "*"
    client.request("GET", "/assets/logo.svg", headers={"If-None-Match": etag})
    response = client.getresponse()
    assert (response.status, response.read()) == (304, b"")
    client.close()


def test_the_slow_page_streams(demo: Demo) -> None:
    client = http.client.HTTPConnection(demo.origin.removeprefix("http://"), timeout=10)
    client.request("GET", "/slow")
    response = client.getresponse()
    assert response.getheader("Transfer-Encoding") == "chunked"
    assert response.read1(1000).startswith(b"Request number 1 ")  # the first piece, long before the last
    rest = response.read()
    assert rest.count(b" of 6") == 6
    client.close()
