"""What works but should be looked at: each remark, and the silence of what is as it should be."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from flyby.config import Backend, Config, Limits, Purge, Route, Server
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
        (Route(host="a.b:443"), "host", '"a.b:443" matches no client that leaves the default port out'),
        (Route(host="*.a.b:80"), "host", '"*.a.b:80" matches no client that leaves the default port out'),
    ],
)
def test_routes(route: Route, key: str, says: str) -> None:
    [remark] = remarks((Route(path="/first"), route))
    assert remark.path == ("routes", 1, key)
    assert remark.message.startswith(says)


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
