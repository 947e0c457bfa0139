"""What works but should be looked at: each remark, and the silence of what is as it should be."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from flyby.config import Backend, Config, Limits, Purge, Redirect, Route, RouteCache, Server
from flyby.config.remarks import remarks_of, remarks_of_file
from flyby.config.shape import Fault

APP = Backend(origins=["http://127.0.0.1:1"])


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processors and descriptors enough."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 65536))


def remarks(routes: tuple[Route, ...] = (), **server: Any) -> list[Fault]:
    return list(remarks_of(Config(server=Server(**server), backends={"app": APP}, routes=list(routes))))


def test_a_configuration_that_is_as_it_should_be_has_none() -> None:
    routes = (Route(path="/api"), Route(path="*.css"), Route(host="a.b:8080"))
    assert remarks(routes, workers=8, limits=Limits(connections=40000)) == []
    assert remarks(workers="auto") == []


@pytest.mark.parametrize(
    ("server", "path", "says"),
    [
        ({"trusted_proxies": ["10.0.0.0/8", "::/0"]}, ("server", "trusted_proxies", 1), '"::/0" is everybody'),
        ({"workers": 9}, ("server", "workers"), "9 workers share 2 processors"),
        (
            {"limits": Limits(connections=65536)},
            ("server", "limits", "connections"),
            "only 65536 descriptors can be opened",
        ),
    ],
)
def test_the_server(server: dict[str, Any], path: tuple[str | int, ...], says: str) -> None:
    [remark] = remarks(**server)
    assert remark.path == path
    assert remark.message.startswith(says)
    assert remark.hint


def test_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    [remark] = remarks()
    assert remark.message == "a worker can open only 256 descriptors, three quarters of them for clients"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert remarks() == []


@pytest.mark.parametrize(
    ("route", "key", "says"),
    [
        (Route(path="/img/.*"), "path", '"/img/.*" is matched literally'),
        (Route(path="/(a|b)"), "path", '"/(a|b)" is matched literally'),
        (Route(redirect=Redirect(to="https://a.b$request_uri")), "redirect.to", '"$request_uri" is sent literally'),
        (Route(redirect=Redirect(to="https://a.b{uri}")), "redirect.to", '"{uri}" is sent literally'),
        (Route(redirect=Redirect(to="https://a.b%{REQUEST_URI}")), "redirect.to", '"%{REQUEST_URI}" is sent literally'),
        (Route(rewrite="/v2/$1"), "rewrite", '"$1" is sent literally'),
        (Route(rewrite=r"/v2/\1"), "rewrite", r'"\1" is sent literally'),
        (Route(headers={"A": ".*Mobile.*"}), "headers.A", '".*Mobile.*" is compared literally'),
        (Route(headers={"A": "^(a|b)$"}), "headers.A", '"^(a|b)$" is compared literally'),
        (Route(host="a.b:443"), "host", '"a.b:443" matches no client that leaves the default port out'),
        (Route(host="*.a.b:80"), "host", '"*.a.b:80" matches no client that leaves the default port out'),
    ],
)
def test_routes(route: Route, key: str, says: str) -> None:
    [remark] = remarks((Route(path="/first"), route))
    assert remark.path == ("routes", 1, *key.split("."))
    assert remark.message.startswith(says)
    assert remark.hint


@pytest.mark.parametrize(
    ("cache", "place", "name"),
    [
        (RouteCache(query_deny=["a", "utm_*"]), ("query_deny", 1), "utm_*"),
        (RouteCache(query_allow=["^q$"]), ("query_allow", 0), "^q$"),
        (RouteCache(ignore_cookies=["_ga*", "_ga.*"]), ("ignore_cookies", 1), "_ga.*"),
        (RouteCache(keep_cookies=["*_session"]), ("keep_cookies", 0), "*_session"),
    ],
)
def test_names_that_look_like_patterns(cache: RouteCache, place: tuple[str, int], name: str) -> None:
    [remark] = remarks((Route(cache=cache),))
    assert remark.path == ("routes", 0, "cache", *place)
    assert remark.message == f'"{name}" is compared literally: it is no pattern'


@pytest.mark.parametrize(
    "route",
    [
        Route(path="/:a/*rest", rewrite="/x/:a/*rest"),
        Route(rewrite="/odata/$metadata"),
        Route(headers={"Accept": "*/*", "User-Agent": "Mozilla/5.0 (compatible; X/1.0)"}),
        Route(cache=RouteCache(query_deny=["utm_source", "a.b"], ignore_cookies=["_ga*", "a.b"])),
    ],
)
def test_routes_that_mean_what_they_say(route: Route) -> None:
    assert remarks((route,)) == []


def test_a_secret_that_everybody_can_read(tmp_path: Path) -> None:
    file = tmp_path / "flyby.toml"
    file.write_text("")
    config = Config(server=Server(purge=Purge(secret="s")))
    file.chmod(0o640)
    assert list(remarks_of_file(str(file), config)) == []
    file.chmod(0o644)
    [remark] = remarks_of_file(str(file), config)
    assert remark.path == ("server", "purge", "secret")
    assert remark.hint == f"chmod o-r {file}"
    assert list(remarks_of_file(str(file), Config())) == []


def test_a_state_that_is_not_there(tmp_path: Path) -> None:
    [remark] = remarks_of_file("f", Config(server=Server(state="/no/such/place")))
    assert remark.path == ("server", "state")
    assert remark.message.startswith('"/no/such/place" is not there')
    assert list(remarks_of_file("f", Config(server=Server(state=str(tmp_path))))) == []
