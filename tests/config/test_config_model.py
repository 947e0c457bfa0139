"""The model: a configuration made in Python, and what goes without saying in it."""

from __future__ import annotations

import pytest

from flyby.config import Backend, Cache, Config, Limits, Redirect, Route, Server
from flyby.errors import ConfigError

APP = Backend(origins=["http://127.0.0.1:5000"])


def test_everything_has_a_default_and_nothing_is_served_then() -> None:
    assert Config().empty
    assert Config().effective_routes() == []
    assert Config().problems() == []
    assert not Config(backends={"app": APP}).empty
    assert not Config(routes=[Route(redirect=Redirect(to="/"))]).empty


def test_a_sole_backend_needs_no_route() -> None:
    config = Config(server=Server(listen=["127.0.0.1:0"]), backends={"app": APP})
    assert config.effective_routes() == [Route(backend="app")]
    assert config.problems() == []


def test_a_sole_backend_serves_each_route_without_another_fate() -> None:
    away = Route(host="a.b", redirect=Redirect(to="https://c.d/"))
    config = Config(backends={"app": APP}, routes=[away, Route(path="/x"), Route(backend="app")])
    assert config.effective_routes() == [away, Route(path="/x", backend="app"), Route(backend="app")]


def test_sizes_in_bytes() -> None:
    assert Cache().size_bytes == 256 << 20
    assert Cache().max_object_bytes == 32 << 20
    assert Cache(size=1 << 20, max_object="64KiB").max_object_bytes == 64 << 10


def test_what_python_does_not_check_is_checked() -> None:
    config = Config(server=Server(limits=Limits(fields="many")), backends={"app": APP})  # type: ignore[arg-type]
    [problem] = config.problems()
    assert str(problem) == "<config>: server.limits.fields: expected a whole number, got text in quotes"


def test_problems_of_a_configuration_in_python_name_their_place() -> None:
    config = Config(backends={"app": APP}, routes=[Route(path="/a"), Route(backend="ap")])
    [problem] = config.problems()
    assert problem.message == 'routes[1].backend: there is no backend "ap"'
    assert problem.hint == 'did you mean "app"?'


def test_text_that_is_wrong_raises_with_every_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_text("[server]\nx = 1\ny = 2\n", "here.toml")
    assert [(each.file, each.line) for each in caught.value.problems] == [("here.toml", 2), ("here.toml", 3)]
