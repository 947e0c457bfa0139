"""Which routes hide which: tables, and a comparison with the router itself."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.config import Config, Redirect, Route
from flyby.config.coverage import hidden, scope
from flyby.proxy.routing.router import Router


def route(text: str) -> Route:
    """`HOST PATH SCHEME NAME=VALUE`, each of them "-" for none."""
    host, path, scheme, field = (*text.split(), "-", "-", "-")[:4]
    return Route(
        host=None if host == "-" else host,
        path=None if path == "-" else path,
        scheme=None if scheme == "-" else scheme,  # type: ignore[arg-type]
        headers={} if field == "-" else dict([field.split("=")]),
        redirect=Redirect(to="/"),
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("- -", "- /x"),
        ("- /", "a.b /x/:y http X=1"),
        ("- /api", "- /api"),
        ("- /api", "- /api/"),
        ("- /api", "- /api/v2"),
        ("- /api", "- /api/:id"),
        ("- /api", "- /api/*rest"),
        ("- /api", "- /api/*.css"),
        ("- /a/", "- /a/b"),
        ("- /a/*rest", "- /a/"),
        ("- /a/*rest", "- /a/b/c"),
        ("- /:a", "- /:b"),
        ("- /:a/x", "- /:b/x"),
        ("- /:a/*rest", "- /b/c"),
        ("- /*.css", "- /img/*.css"),
        ("- *.css", "- /img/*.min.css"),
        ("- /*.css", "- /:a/*.css"),
        ("example.com", "EXAMPLE.com"),
        ("example.com", "example.com."),
        ("example.com /", "example.com:8080 /x"),
        ("*.example.com", "www.example.com"),
        ("*.example.com", "*.a.example.com"),
        ("*", "a.b"),
        ("- - http", "a.b /x http"),
        ("- - - X=*", "- - - X=1"),
        ("- - - x=1", "- - - X=1"),
    ],
)
def test_a_route_that_is_never_used(first: str, second: str) -> None:
    found = list(hidden([route("other.example /other"), route(first), route(second)]))
    assert [(number, by) for number, by, _ in found] == [(2, 1)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("- /api/", "- /api"),  # /api itself
        ("- /api", "- /apix"),
        ("- /api/v2", "- /api"),
        ("- /:a", "- /b"),  # a prefix goes on below /b
        ("- /:a", "- /"),
        ("- /a/:b", "- /a/:b/c"),
        ("- /*.css", "- /img"),
        ("- /*.min.css", "- /*.css"),
        ("- /img/*.css", "- /*.css"),
        ("- /a/*rest", "- /a"),
        ("example.com", "example.org"),
        ("*.example.com", "example.com"),
        ("*.a.example.com", "*.example.com"),
        ("example.com:80", "example.com"),
        ("example.com", "-"),
        ("- - http", "-"),
        ("- - http", "- - https"),
        ("- - - X=1", "- - - X=2"),
        ("- - - X=1", "- - - X=*"),
        ("- - - X=1", "- - - Y=1"),
    ],
)
def test_a_route_that_is_used(first: str, second: str) -> None:
    assert list(hidden([route(first), route(second)])) == []


def test_the_same_requests_are_told_apart_from_some_of_them() -> None:
    alike = [route("a.b /x"), route("A.b. /x"), route("a.b /x/y")]
    assert list(hidden(alike)) == [(1, 0, True), (2, 0, False)]


SEGMENTS = st.sampled_from(["a", "b", ":x", "", "a.c", "*r", "*.c"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda each: "/" + "/".join(each))
REQUESTS = ["/" + "/".join(each) for n in (1, 2, 3, 4) for each in itertools.product(("a", "b", "a.c", ""), repeat=n)]


class Asked:
    scheme = b"http"
    host = b"h"
    fields = None

    def __init__(self, path: str) -> None:
        self.path = path.encode()


@given(PATHS, PATHS)
def test_what_is_hidden_is_never_chosen_by_the_router(first: str, second: str) -> None:
    routes = [Route(path=first, redirect=Redirect(to="/1")), Route(path=second, redirect=Redirect(to="/2"))]
    if any(scope(each) is None for each in routes):
        return
    router = Router(Config(routes=routes))
    found = [router.match(Asked(path)) for path in REQUESTS]  # type: ignore[arg-type]
    used = any(match is not None and match.route is routes[1] for match in found)
    if list(hidden(routes)):
        assert not used
