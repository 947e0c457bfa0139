"""The signpost chooses the route that the router would, or none."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyby.config import Backend, Cache, Config, Redirect, Route, RouteCache
from flyby.proxy.road.context import cache_rules
from flyby.proxy.routing._signpost import Signpost
from flyby.proxy.routing.router import Router
from flyby.wire import Fields

NAMED = Route(host="shop.test", backend="a")
ROUTES = [
    Route(backend="a"),
    NAMED,
    Route(host="*.shop.test", backend="b"),
    Route(host="shop.test:8080", backend="b"),
    Route(path="/api", backend="b"),
    Route(path="/api/", backend="a"),
    Route(path="/", backend="a"),
    Route(path="/x/:id", backend="b"),
    Route(path="/:any/y", backend="b"),
    Route(path="/old", redirect=Redirect(to="/new")),
    Route(host="shop.test", headers={"X-Canary": "*"}, backend="b"),
    Route(scheme="https", backend="b"),
    Route(path="/raw", backend="a", cache=RouteCache(off=True)),
    Route(path="/q", backend="a", cache=RouteCache(query_deny=["utm_*"])),
    Route(path="/c", backend="a", cache=RouteCache(ignore_cookies=["_ga"])),
]
PREVIEWS = {"b.preview.test": "b", "shop.test": "a"}
HOSTS = [
    b"b.preview.test",
    b"b.preview.test:81",
    b"shop.test",
    b"shop.test:8080",
    b"a.shop.test",
    b".shop.test",
    b"xshop.test",
    b"other",
    b"127.0.0.1:81",
]
PATHS = [
    b"/",
    b"/api",
    b"/api/",
    b"/api/x",
    b"/apix",
    b"/x/1",
    b"/x/",
    b"/x/1/y",
    b"/old",
    b"/raw/a",
    b"/q",
    b"/c",
    b"/z",
]


class Asked(NamedTuple):
    scheme: bytes
    host: bytes
    path: bytes
    fields: Fields


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.sampled_from(ROUTES), max_size=4),
    st.sampled_from(HOSTS),
    st.sampled_from(PATHS),
    st.sampled_from([b"http", b"https"]),
    st.sampled_from([{}, PREVIEWS]),
)
def test_the_same_route_or_none(
    routes: list[Route], host: bytes, path: bytes, scheme: bytes, previews: dict[str, str]
) -> None:
    router = Router(Config(backends={"a": Backend(), "b": Backend()}, routes=routes), previews)
    signs = [(sign, cache_rules(Cache(), route.cache)) for sign, route in router.signs()]
    chosen = Signpost(signs, scheme).choice(host, path)
    if chosen is None:
        return
    match = router.match(Asked(scheme, host, path, Fields()))
    assert match is not None
    assert match.route is router.routes[chosen]
    assert match.redirect is None


@pytest.mark.parametrize(
    ("routes", "host", "path", "expected"),
    [
        ([Route(backend="a")], b"any", b"/", 0),
        ([NAMED], b"other", b"/", None),
        ([NAMED, Route(backend="b")], b"other", b"/", 1),
        ([ROUTES[7], Route(backend="a")], b"any", b"/x/1", None),
        ([ROUTES[7], Route(backend="a")], b"any", b"/y", 1),
        ([ROUTES[10], Route(backend="a")], b"shop.test", b"/", None),
        ([ROUTES[10], Route(backend="a")], b"other", b"/", 1),
        ([ROUTES[9]], b"any", b"/old", None),
        ([ROUTES[12]], b"any", b"/raw", None),
        ([ROUTES[13]], b"any", b"/q", None),
        ([ROUTES[14]], b"any", b"/c", None),
    ],
)
def test_what_it_can_tell(routes: list[Route], host: bytes, path: bytes, expected: int | None) -> None:
    router = Router(Config(backends={"a": Backend(), "b": Backend()}, routes=routes))
    signs = [(sign, cache_rules(Cache(), route.cache)) for sign, route in router.signs()]
    assert Signpost(signs, b"http").choice(host, path) == expected
