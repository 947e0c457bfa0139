"""The model: a configuration made in Python, and what goes without saying in it."""

# mypy: disable-error-code="arg-type, list-item, dict-item, call-arg"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from flyby.config import (
    Backend,
    Cache,
    Config,
    Eject,
    Health,
    Limits,
    Pool,
    Purge,
    Redirect,
    Route,
    RouteCache,
    Server,
    Timeouts,
)
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


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (lambda: Backend(first_byte_s="5s").first_byte_s, 5.0),
        (lambda: Limits(body="1MiB").body, 1 << 20),
        (lambda: Timeouts(idle_s="1m30s").idle_s, 90.0),
        (lambda: Timeouts(body_rate="1KiB").body_rate, 1024),
        (lambda: RouteCache(ttl_s="5m").ttl_s, 300.0),
        (lambda: Health(interval_s="500ms").interval_s, 0.5),
        (lambda: Pool(wait_s="2s").wait_s, 2.0),
        (lambda: Eject(backoff_s="1s", max_backoff_s="1h").max_backoff_s, 3600.0),
        (lambda: replace(Backend(), connect_s="3s").connect_s, 3.0),
        (lambda: Server(listen=("127.0.0.1:0",)).listen, ["127.0.0.1:0"]),
        (lambda: Cache(path=Path("/run/x")).path, "/run/x"),
        (lambda: RouteCache(query_allow=frozenset({"a"})).query_allow, ["a"]),
    ],
)
def test_text_is_taken_in_python_as_in_a_file(made: Callable[[], object], value: object) -> None:
    assert made() == value


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Limits(fields="many"), "Limits.fields: expected a whole number, got text in quotes"),
        (lambda: Backend(first_byte_s="soon"), "Backend.first_byte_s: 'soon' is not a duration such as 500ms"),
        (lambda: Backend(first_byte_s=[]), "Backend.first_byte_s: expected a duration such as 30"),
        (lambda: Backend(first_byte_s=0), "Backend.first_byte_s: expected a number greater than 0"),
        (
            lambda: Backend(origins="http://a"),
            'Backend.origins: expected an array, got text in quotes (write ["http://a"])',
        ),
        (lambda: Backend(origins=[1]), "Backend.origins[0]: expected text in quotes, got a whole number"),
        (lambda: Backend(verify=1), "Backend.verify: expected true or false, got a whole number"),
        (lambda: Backend(health=True), "Backend.health: expected Health, got true or false (write Health(...))"),
        (lambda: Backend(pool={"wait_s": 1}), "Backend.pool: expected Pool, got a table (write Pool(...))"),
        (lambda: Backend(pool=None), "Backend.pool: expected Pool, got NoneType"),
        (lambda: Config(server={}), "Config.server: expected Server, got a table (write Server(...))"),
        (lambda: Config(backends={"app": {}}), "Config.backends.app: expected Backend, got a table (write Backend("),
        (lambda: Config(backends=[APP]), "Config.backends: expected a table of Backend, got an array"),
        (lambda: Config(routes=Route()), "Config.routes: expected an array of Route, got Route"),
        (lambda: Config(routes=[{}]), "Config.routes[0]: expected Route, got a table (write Route(...))"),
        (lambda: Route(headers={"A": b"1"}), "Route.headers.A: expected text in quotes, got bytes"),
        (lambda: Route(backend={"app": "most"}), "Route.backend.app: expected a whole number, got text in quotes"),
        (lambda: Purge(secret=b"x"), "Purge.secret: expected text in quotes, got bytes"),
        (lambda: Cache(size=None), "Cache.size: expected a size such as 8192"),
        (lambda: Timeouts(idle_s=1e300), "Timeouts.idle_s: expected a number of at most 1000000000"),
        (lambda: Limits(body=1 << 60), "Limits.body: expected a whole number of at most"),
        (lambda: replace(Route(), path=3), "Route.path: expected text in quotes, got a whole number"),
    ],
)
def test_a_wrong_type_is_refused_where_it_is_made(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    [problem] = caught.value.problems
    assert says in str(problem)


def test_every_wrong_value_of_a_table_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Timeouts(idle_s="?", head_s=[], body_s=5)
    assert len(caught.value.problems) == 2


def test_tables_are_made_with_names() -> None:
    for table in (Config, Server, Backend, Route, Cache):
        with pytest.raises(TypeError):
            table("x")


def test_problems_of_a_configuration_in_python_name_their_place() -> None:
    config = Config(backends={"app": APP}, routes=[Route(path="/a"), Route(backend="ap")])
    [problem] = config.problems()
    assert problem.message == 'routes[1].backend: there is no backend "ap"'
    assert problem.hint == 'did you mean "app"?'


def test_text_that_is_wrong_raises_with_every_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_text("[server]\nx = 1\ny = 2\n", "here.toml")
    assert [(each.file, each.line) for each in caught.value.problems] == [("here.toml", 2), ("here.toml", 3)]
