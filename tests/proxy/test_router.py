"""The router: a table for each part of a route, then the order of routes and where they lead."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from flyby.config import Backend, Config, Redirect, Route
from flyby.proxy.routing.router import Match, Redirection, Router


@dataclass
class Lines:
    lines: list[tuple[bytes, bytes]] = field(default_factory=list)

    def get_all(self, lname: bytes, /) -> list[bytes]:
        return [value for name, value in self.lines if name.lower() == lname]


@dataclass
class Request:
    path: bytes = b"/"
    host: bytes = b"example.com"
    scheme: bytes = b"http"
    fields: Lines = field(default_factory=Lines)


def route_of(route: Route, request: Request) -> Match | None:
    config = Config(backends={"app": Backend(origins=["http://127.0.0.1:1"])}, routes=[route])
    assert config.problems() == []
    return Router(config).match(request)


@pytest.mark.parametrize(
    ("host", "authority", "fits"),
    [
        ("example.com", b"example.com", True),
        ("Example.COM", b"example.com", True),
        ("example.com", b"example.com:8080", True),
        ("example.com:8080", b"example.com:8080", True),
        ("example.com:8080", b"example.com", False),
        ("example.com", b"www.example.com", False),
        ("example.com", b"example.com.evil", False),
        ("example.com", b"notexample.com", False),
        ("*.example.com", b"www.example.com", True),
        ("*.example.com", b"a.b.example.com:1", True),
        ("*.example.com", b"example.com", False),
        ("*.example.com", b".example.com", False),
        ("*.example.com", b"notexample.com", False),
        ("*.example.com:80", b"a.example.com:80", True),
        ("*.example.com:80", b"a.example.com", False),
        ("[::1]", b"[::1]", True),
        ("[::1]", b"[::1]:8080", True),
        ("[::1]:8080", b"[::1]:8080", True),
        ("*", b"anything", True),
        (None, b"", True),
    ],
)
def test_hosts(host: str | None, authority: bytes, fits: bool) -> None:
    assert (route_of(Route(host=host), Request(host=authority)) is not None) is fits


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/", b"/", True),
        ("/", b"/any/thing?x", True),
        ("/", b"*", False),
        (None, b"*", True),
        ("/api", b"/api", True),
        ("/api", b"/api/", True),
        ("/api", b"/api/x", True),
        ("/api", b"/api?x=/", True),
        ("/api", b"/apix", False),
        ("/api", b"/API", False),
        ("/api", b"/%61pi", False),
        ("/api", b"//api", False),
        ("/api/", b"/api", False),
        ("/api/", b"/api/x", True),
        ("/%C3%A9", b"/%C3%A9", True),
        ("/%C3%A9", b"/%c3%a9", False),
        ("/users/:id", b"/users/5", True),
        ("/users/:id", b"/users/5?x", True),
        ("/users/:id", b"/users/", False),
        ("/users/:id", b"/users/5/", False),
        ("/users/:id", b"/users/5/x", False),
        ("/users/:id/edit", b"/users/5/edit", True),
        ("/users/:id/edit", b"/users/5/6/edit", False),
        ("/users/:id/edit", b"/users/5/edits", False),
        ("/:a/:b", b"/%2F/x", True),
        ("/:a/:b", b"//x", False),
        ("/old/*rest", b"/old/", True),
        ("/old/*rest", b"/old/a/b//c", True),
        ("/old/*rest", b"/old", False),
        ("/*rest", b"/", True),
        ("/a/:b/*c", b"/a/b/", True),
        ("/a/:b/*c", b"/a/b", False),
        ("/a:b", b"/a:b", True),
        ("/a*", b"/a*/x", True),
        ("*.css", b"/x.css", True),
        ("*.css", b"/a/b/x.css?v=1", True),
        ("*.css", b"/.css", True),
        ("*.css", b"/x.css/", False),
        ("*.css", b"/x.CSS", False),
        ("*.css", b"/x?y=.css", False),
        ("*.css", b"*", False),
        ("/img/*.css", b"/img/x.css", True),
        ("/img/*.css", b"/img/a/x.css", True),
        ("/img/*.css", b"/img.css", False),
        ("/img/*.css", b"/x/img/x.css", False),
        ("/.css/*.css", b"/.css", False),
        ("/.css/*.css", b"/.css/.css", True),
        ("/:user/*.png", b"/5/a.png", True),
        ("/:user/*.png", b"//a.png", False),
    ],
)
def test_paths(pattern: str | None, path: bytes, fits: bool) -> None:
    match = route_of(Route(path=pattern), Request(path))
    assert (match is not None) is fits
    if match is not None:
        assert match.path is path  # not a byte is changed, nor copied


@pytest.mark.parametrize(
    ("headers", "lines", "fits"),
    [
        ({"X-Env": "test"}, [(b"x-env", b"test")], True),
        ({"X-Env": "test"}, [(b"X-ENV", b"other"), (b"X-Env", b"test")], True),
        ({"X-Env": "test"}, [(b"X-Env", b"Test")], False),
        ({"X-Env": "test"}, [], False),
        ({"X-Env": "*"}, [(b"X-Env", b"")], True),
        ({"X-Env": "*"}, [], False),
        ({"A": "1", "B": "2"}, [(b"A", b"1")], False),
        ({"A": "1", "B": "2"}, [(b"B", b"2"), (b"A", b"1")], True),
    ],
)
def test_header_fields(headers: dict[str, str], lines: list[tuple[bytes, bytes]], fits: bool) -> None:
    assert (route_of(Route(headers=headers), Request(fields=Lines(lines))) is not None) is fits


def test_schemes() -> None:
    assert route_of(Route(scheme="https"), Request(scheme=b"https")) is not None
    assert route_of(Route(scheme="https"), Request(scheme=b"http")) is None


@pytest.mark.parametrize(
    ("pattern", "rewrite", "path", "upstream"),
    [
        ("/api", "/v2", b"/api", b"/v2"),
        ("/api", "/v2", b"/api/x?y=1", b"/v2/x?y=1"),
        ("/api", "/", b"/api", b"/"),
        ("/api", "/", b"/api/x", b"/x"),
        ("/api/", "/v2/", b"/api/x", b"/v2/x"),
        ("/", "/app", b"/x", b"/app/x"),
        (None, "/app", b"/?q", b"/app/?q"),
        (None, "/app", b"*", b"*"),
        ("/u/:id/*rest", "/:id/user/*rest", b"/u/5/a//b?c", b"/5/user/a//b?c"),
        ("/u/:id", "/fixed", b"/u/5?q", b"/fixed?q"),
        ("/:user/*.png", "/avatar/:user", b"/5/a.png?q", b"/avatar/5?q"),
        ("/f/*rest", "/*rest", b"/f/%2e%2E/a", b"/%2e%2E/a"),
    ],
)
def test_rewrites(pattern: str | None, rewrite: str, path: bytes, upstream: bytes) -> None:
    match = route_of(Route(path=pattern, rewrite=rewrite), Request(path))
    assert match is not None
    assert (match.backend, match.path, match.redirect) == ("app", upstream, None)


@pytest.mark.parametrize(
    ("pattern", "to", "path", "location"),
    [
        (None, "https://new.example/", b"/x?y", b"https://new.example/?y"),
        ("/*all", "https://www.example.com/*all", b"/a/b?c=d", b"https://www.example.com/a/b?c=d"),
        ("/*all", "https://www.example.com/*all?src=1", b"/a?c", b"https://www.example.com/a?src=1"),
        ("/p/:id", "/posts/:id#top", b"/p/5?x", b"/posts/5#top"),
        ("/p/:id", "/posts/:id", b"/p/5", b"/posts/5"),
        # The path must not become the address of another site.
        ("/go/*to", "/*to", b"/go//evil.example", b"/evil.example"),
        ("/go/*to", "/*to", b"/go/\\evil.example", b"/evil.example"),
        ("/go/*to", "/*to", b"/go///\\/evil.example?q", b"/evil.example?q"),
    ],
)
def test_redirects(pattern: str | None, to: str, path: bytes, location: bytes) -> None:
    match = route_of(Route(path=pattern, redirect=Redirect(to=to, status=308)), Request(path))
    assert match is not None
    assert match.redirect == Redirection(location, 308)
    assert match.backend == ""


def test_the_first_match_wins_and_no_match_is_none() -> None:
    backends = {name: Backend(origins=[f"http://{name}"]) for name in ("a", "b", "c")}
    routes = [
        Route(host="h", path="/x", backend="a"),
        Route(path="/x/:y", backend="b"),
        Route(host="h", backend="c"),
    ]
    router = Router(Config(backends=backends, routes=routes))
    taken = [
        (match.backend, router.routes.index(match.route)) if match else None
        for match in (
            router.match(Request(b"/x/y", b"h")),
            router.match(Request(b"/x/y", b"i")),
            router.match(Request(b"/z", b"h")),
            router.match(Request(b"/z", b"i")),
        )
    ]
    assert taken == [("a", 0), ("b", 1), ("c", 2), None]
    assert all(mine is theirs for mine, theirs in zip(router.routes, routes, strict=True))


def test_a_sole_backend_takes_everything_and_nothing_takes_nothing() -> None:
    only = Router(Config(backends={"app": Backend(origins=["http://a"])}))
    match = only.match(Request(b"*"))
    assert repr(match) == "<Match app b'*'>"
    assert Router(Config()).match(Request()) is None


@pytest.mark.serial
def test_a_path_made_to_backtrack_is_matched_in_one_pass() -> None:
    pattern = "".join(f"/a/:s{number}" for number in range(100)) + "/end"
    path = b"/a/a" * 100 + b"/" * 30_000
    started = time.process_time()
    for _ in range(20):
        assert route_of(Route(path=pattern), Request(path)) is None
    assert time.process_time() - started < 2


PREVIEWS = {"shop.preview.test": "shop", "blog.preview.test": "blog"}


@pytest.mark.parametrize(
    ("host", "path", "backend"),
    [
        (b"shop.preview.test", b"/", "shop"),
        (b"shop.preview.test:8443", b"/x?y", "shop"),
        (b"blog.preview.test", b"/api", "blog"),  # not the route of /api: it names no host
        (b"old.preview.test", b"/", "app"),  # no backend's preview: an ordinary host
        (b"a.shop.preview.test", b"/", "app"),
        (b"preview.test", b"/", "app"),
        (b"example.com", b"/api", "api"),
        (b"shop.preview.test", b"/ours/x", "app"),  # a route that names the host can take it, or a part of it
    ],
)
def test_a_preview_belongs_to_its_backend(host: bytes, path: bytes, backend: str) -> None:
    settings = Backend(origins=["http://127.0.0.1:1"])
    config = Config(
        backends={"app": settings, "api": settings},
        routes=[
            Route(host="*.preview.test", path="/ours", backend="app"),
            Route(path="/api", backend="api"),
            Route(host="*", backend="app"),
        ],
    )
    assert config.problems() == []
    router = Router(config, PREVIEWS)
    match = router.match(Request(path=path, host=host))
    assert match is not None
    assert (match.backend, match.path, match.redirect) == (backend, path, None)
    assert match.route in router.routes  # whose rules are compiled by that list


def test_previews_stand_before_the_sole_backend() -> None:
    router = Router(Config(backends={"app": Backend(origins=["http://127.0.0.1:1"])}), PREVIEWS)
    backends = [router.match(Request(host=host)) for host in (b"shop.preview.test", b"example.com")]
    assert [match.backend for match in backends if match is not None] == ["shop", "app"]
    alone = Router(Config(), PREVIEWS)
    assert alone.match(Request(host=b"example.com")) is None
