"""Rendering: the text reads back as the same configuration, and says no more than an operator wants to see."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flyby.config import (
    Backend,
    Cache,
    Config,
    HeaderRules,
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
from flyby.config.load import read_text

FULL = Config(
    server=Server(
        listen=["127.0.0.1:0", "[::1]:0"],
        workers=3,
        log="heroku",
        limits=Limits(fields=7, body=1024),
        timeouts=Timeouts(idle_s=2.5, drain_s=0),
        purge=Purge(secret="s3cret", allow=["10.0.0.0/8"]),
    ),
    cache=Cache(
        size="1GiB",
        profile="rfc9111",
        max_object=4096,
        targeted=[],
        max_variants=2,
        compression="fast",
        guess_s=0,
        hit_for_miss_s=5.5,
    ),
    backends={
        "app": Backend(origins=["https://a.b"], host="client", tls_name="c.d", pool=Pool(wait_s=1), health=Health()),
        "b.2": Backend(origins=["http://a.b", "http://[::1]:3"], verify=False, health=Health(path="/h", rise=9)),
    },
    routes=[
        Route(
            host="*.a.b",
            path="/old/:id/*rest",
            headers={"X-A": 'quo"te\\', "x.b": "*"},
            redirect=Redirect(to="/new/:id", status=308),
        ),
        Route(
            path="/api",
            backend="b.2",
            rewrite="/v2",
            cache=RouteCache(ttl_s=0, query_allow=[], ignore_cookies=["_ga*"], set_cookie="strip"),
            request_headers=HeaderRules(set={"X-Y": ""}, add={"Q": "1"}, remove=["Cookie"]),
        ),
        Route(backend="app"),
    ],
)


def test_a_full_configuration_is_sound_and_reads_back_the_same() -> None:
    config, problems = read_text(FULL.to_toml(), "rendered")
    assert problems == []
    assert config == FULL
    assert FULL.problems() == []


def test_the_defaults_are_short_and_read_back_the_same() -> None:
    text = Config().to_toml()
    assert text == (
        '[server]\nlisten = ["127.0.0.1:8080"]\nworkers = "auto"\nlog = "console"\n\n'
        '[cache]\nsize = "256MiB"\nprofile = "default"\n'
    )
    assert Config.from_text(text) == Config()


names = st.text(st.characters(codec="utf-8"), max_size=8)
seconds = st.floats(min_value=0.001, max_value=1e9)


@settings(max_examples=60)
@given(st.dictionaries(names, names, max_size=3), st.lists(names, max_size=3), seconds, names)
def test_any_text_and_number_reads_back_the_same(
    headers: dict[str, str], listen: list[str], idle: float, name: str
) -> None:
    config = Config(
        server=Server(listen=listen, timeouts=Timeouts(idle_s=idle)),
        backends={name: Backend()},
        routes=[Route(headers=headers, request_headers=HeaderRules(set=headers, remove=listen))],
    )
    assert read_text(config.to_toml(), "rendered")[0] == config
