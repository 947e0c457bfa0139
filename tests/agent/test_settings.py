"""What the agent is told, and what it says about what is wrong with it."""

from __future__ import annotations

import random
from contextlib import nullcontext

import pytest

from flyby_agent import endpoints
from flyby_agent.backoff import Backoff
from flyby_agent.endpoints import Endpoint
from flyby_agent.health import Verdict
from flyby_agent.log import flat
from flyby_agent.settings import NotHere, SettingsError, app_port, gate, level, merged, process_type, settle

GOOD = {"FLY_TOKEN": "fly_id_secret", "FLY_REMOTE_ENDPOINT": "https://edge.example"}


def test_defaults() -> None:
    found = settle(merged({}, GOOD), GOOD)
    assert found.endpoints == [Endpoint("https", "edge.example", 443)]
    assert (found.local, found.keep_s, found.capacity, found.drain_s) == (("127.0.0.1", 5000), 4.0, 100, 22.0)
    assert found.process == "web"


def test_names_are_what_the_edge_takes_for_names() -> None:
    given = {"release_id": " v 12\n" + "x" * 200, "release_desc": "Déploy\nabc", "region": "é"}
    found = settle(merged(given, {**GOOD, "DYNO": "web.1" + "9" * 100}), {**GOOD, "DYNO": "web.1" + "9" * 100})
    assert found.release == {"id": ("v_12_" + "x" * 200)[:128], "description": "Déploy abc", "branch": ""}
    assert (found.region, found.dyno) == ("_", "web.1" + "9" * 59)


def test_a_flag_wins_over_a_variable_and_that_over_the_default() -> None:
    environment = {**GOOD, "FLY_CAPACITY": "7", "FLY_PORT": "8001", "PORT": "8000", "DYNO": "app.3"}
    assert settle(merged({}, environment), environment).capacity == 7
    found = settle(merged({"capacity": "9"}, environment), environment)
    assert (found.capacity, found.local, found.dyno, found.process) == (9, ("127.0.0.1", 8001), "app.3", "app")
    del environment["FLY_PORT"]
    assert settle(merged({}, environment), environment).local == ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("text", "local", "path"),
    [
        ("0.0.0.0:1", ("0.0.0.0", 1), ""),
        ("[::1]:8080", ("::1", 8080), ""),
        ("localhost:65535", ("localhost", 65535), ""),
        ("unix:/run/app.sock", None, "/run/app.sock"),
    ],
)
def test_local_endpoints(text: str, local: tuple[str, int] | None, path: str) -> None:
    found = settle(merged({"local_endpoint": text}, GOOD), GOOD)
    assert (found.local, found.local_path) == (local, path)


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("FLY_TOKEN", "", "FLY_TOKEN is not set"),
        ("FLY_TOKEN", "two words", "FLY_TOKEN is not a token"),
        ("FLY_TOKEN", "line\r\nend", "FLY_TOKEN is not a token"),
        ("FLY_REMOTE_ENDPOINT", "", "FLY_REMOTE_ENDPOINT is not set"),
        ("FLY_REMOTE_ENDPOINT", "ftp://edge", "is not a URL of an edge"),
        ("FLY_REMOTE_ENDPOINT", "https://edge/path", "is not a URL of an edge"),
        ("FLY_REMOTE_ENDPOINT", "https://user@edge", "is not a URL of an edge"),
        ("FLY_REMOTE_ENDPOINT", "https://edge:0", "there is no port 0"),
        ("FLY_REMOTE_ENDPOINT", "http://edge.example", "for loopback addresses only"),
        ("FLY_REMOTE_ENDPOINT", "http://127.0.0.1.example", "for loopback addresses only"),
        ("FLY_PORT", "http", "FLY_PORT (--port)"),
        ("FLY_PORT", "65536", "FLY_PORT (--port)"),
        ("FLY_LOCAL_ENDPOINT", "nowhere", "FLY_LOCAL_ENDPOINT (--local-endpoint)"),
        ("FLY_LOCAL_ENDPOINT", "unix:", "FLY_LOCAL_ENDPOINT (--local-endpoint)"),
        ("FLY_CAPACITY", "0", "FLY_CAPACITY (--capacity)"),
        ("FLY_CAPACITY", "many", "FLY_CAPACITY (--capacity)"),
        ("FLY_DRAIN_SECONDS", "-1", "FLY_DRAIN_SECONDS (--drain-seconds)"),
        ("FLY_HEALTH_PATH", "health", "FLY_HEALTH_PATH (--health-path)"),
        ("FLY_HEALTH_PATH", "/a b", "FLY_HEALTH_PATH (--health-path)"),
        ("FLY_CA_FILE", "/does/not/exist", "FLY_CA_FILE (--ca-file)"),
        ("FLY_PIN", "sha1/x", "FLY_PIN (--pin)"),
    ],
)
def test_faults_name_the_setting(variable: str, text: str, said: str) -> None:
    environment = {**GOOD, variable: text}
    with pytest.raises(SettingsError) as raised:
        settle(merged({}, environment), environment)
    assert said in str(raised.value)
    assert "two words" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("edge", [("https", "edge", 443)]),
        ("https://a:8443/,b\nhttps://a:8443", [("https", "a", 8443), ("https", "b", 443)]),
        ("http://127.0.0.1:80 http://[::1] http://localhost", None),
    ],
)
def test_lists_of_endpoints(text: str, found: list[tuple[str, str, int]] | None) -> None:
    parsed = endpoints.parse(text)
    assert [each[:3] for each in parsed] == (
        found or [("http", "127.0.0.1", 80), ("http", "::1", 80), ("http", "localhost", 80)]
    )


def test_insecure_is_for_loopback_only() -> None:
    assert endpoints.parse("https://127.0.0.1:8443", insecure=True)
    with pytest.raises(ValueError, match="--insecure"):
        endpoints.parse("https://edge.example", insecure=True)


@pytest.mark.parametrize(
    ("endpoint", "text", "authority"),
    [
        (Endpoint("https", "edge", 443), "https://edge", "edge"),
        (Endpoint("https", "edge", 8443), "https://edge:8443", "edge:8443"),
        (Endpoint("http", "::1", 80), "http://[::1]", "[::1]"),
    ],
)
def test_endpoints_as_text(endpoint: Endpoint, text: str, authority: str) -> None:
    assert (str(endpoint), endpoint.authority) == (text, authority)


@pytest.mark.parametrize(
    ("dyno", "process"),
    [
        ("web.1", "web"),
        ("app.12", "app"),
        ("web-12a34b56d-e78f9", "web"),
        ("my-app-12a34b56d-e78f9", "my-app"),
        ("", ""),
    ],
)
def test_process_type_of_a_dyno(dyno: str, process: str) -> None:
    assert process_type(dyno) == process


@pytest.mark.parametrize(
    ("environment", "beside", "around"),
    [
        ({}, True, True),
        ({"DYNO": "web.1"}, True, True),
        ({"DYNO": "app.1"}, True, True),
        ({"DYNO": "run.4"}, False, False),
        ({"DYNO": "release.1"}, False, False),
        ({"DYNO": "scheduler.9"}, False, False),
        ({"DYNO": "worker.1", "FLY_PROCESS_TYPES": "web, app"}, False, False),
        ({"DYNO": "app.1", "FLY_PROCESS_TYPES": "web, app,\n"}, True, True),
        ({"DYNO": "run.1", "FLY_PROCESS_TYPES": "run"}, True, True),
        ({"DYNO": "app.1", "FLY_PROCESS_TYPES": "none"}, False, True),
        ({"DYNO": "app-12a34b56d-e78f9", "FLY_PROCESS_TYPES": " none "}, False, True),
        ({"FLY_PROCESS_TYPES": "none"}, False, True),
        ({"DYNO": "run.4", "FLY_PROCESS_TYPES": "none"}, False, False),
        ({"DYNO": "worker.1", "FLY_PROCESS_TYPES": "none,app"}, False, False),
        ({"FLY_DISABLED": "1"}, False, False),
        ({"FLY_DISABLED": "false"}, True, True),
    ],
)
def test_where_an_agent_runs(environment: dict[str, str], beside: bool, around: bool) -> None:
    for as_parent, runs in ((False, beside), (True, around)):
        with nullcontext() if runs else pytest.raises(NotHere):
            gate(merged({}, environment), environment, as_parent)


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({}, "5000"),
        ({"PORT": "8080"}, "8080"),
        ({"PORT": " "}, "5000"),
        ({"FLY_PORT": "9000", "PORT": "8080"}, "9000"),
        ({"FLY_LOCAL_ENDPOINT": "127.0.0.1:7000"}, "7000"),
        ({"FLY_LOCAL_ENDPOINT": "unix:/run/app.sock"}, ""),
        ({"FLY_PORT": "no port"}, "5000"),
        ({"FLY_LOCAL_ENDPOINT": "unix:"}, "5000"),
    ],
)
def test_the_port_that_an_app_under_the_agent_is_given(environment: dict[str, str], port: str) -> None:
    assert app_port(merged({}, environment), environment) == port


def test_log_levels() -> None:
    assert level(merged({}, {"FLY_LOG_LEVEL": "WARN"})) == "warning"
    assert level(merged({}, {})) == "info"
    with pytest.raises(SettingsError, match="FLY_LOG_LEVEL"):
        level(merged({}, {"FLY_LOG_LEVEL": "loud"}))


def test_a_log_line_is_one_line() -> None:
    assert flat("a\r\nfly: error: b\x1b[2J\u2028c") == "a fly: error: b [2J c"
    assert len(flat("x" * 1000)) == 300


def test_backoff_grows_to_its_ceiling_and_waits_anything_below() -> None:
    asked: list[tuple[float, float]] = []

    def highest(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    backoff = Backoff(lambda: 0.0, highest)
    assert [round(backoff.next(), 3) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert {low for low, _ in asked} == {0}
    waits = [Backoff(lambda: 0.0, random.Random(7).uniform).next() for _ in range(100)]
    assert all(0 <= wait <= 0.1 for wait in waits)


def test_backoff_is_forgotten_after_thirty_seconds_of_health_and_not_before() -> None:
    now = 0.0
    backoff = Backoff(lambda: now, lambda low, high: high)
    for _ in range(4):
        backoff.next()
    backoff.healthy()
    now = 29.9
    assert backoff.next() == pytest.approx(1.6)
    backoff.healthy()
    now = 40.0
    backoff.healthy()  # of another worker: health counts from the first
    now = 59.9
    assert backoff.next() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("checks", "verdicts"),
    [
        ("++", "01"),
        ("+-++", "0001"),
        ("++--+", "01111"),
        ("++---", "01110"),
        ("++---+-++", "011100001"),
    ],
)
def test_readiness_rises_and_falls(checks: str, verdicts: str) -> None:
    verdict = Verdict(rise=2, fall=3)
    seen = []
    for check in checks:
        before = verdict.ready
        assert verdict.feed(check == "+") == (verdict.ready != before)
        seen.append("1" if verdict.ready else "0")
    assert "".join(seen) == verdicts
