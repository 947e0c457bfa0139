"""What happens in a dyno before the app starts: .profile.d/flyby.sh, and the loop that keeps the agent running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.heroku.conftest import EDGE, Platform
from tests.heroku.heroku import Dyno, Slug, without_python

APP = {"requirements.txt": "", "app.py": "", "Procfile": "app: bin/app\n"}


def wait_for(found: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def slug(platform: Platform) -> Slug:
    slug = platform.slug(APP)
    assert slug.compile(SOURCE_VERSION="4f2a9c1").returncode == 0
    slug.config = {"FLY_TOKEN": "fly_abc_secret"}
    return slug


@pytest.fixture
def dynos() -> Iterator[list[Dyno]]:
    booted: list[Dyno] = []
    yield booted
    for dyno in booted:
        dyno.stop(signal.SIGKILL)


def told(slug: Slug) -> list[dict[str, str]]:
    """What the agents that were started saw, in order."""
    log = slug.folder / "agent.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def printed(slug: Slug, command: str, dyno: str, options: str = "", **config: str) -> subprocess.CompletedProcess[str]:
    """Runs `command` behind the profile script, which must leave nothing running in these."""
    slug.config |= config
    script = f"{options}. .profile.d/flyby.sh; {command}"
    environment = slug.environment(dyno, 8000)
    return subprocess.run(
        ["bash", "-c", script], cwd=slug.folder, env=environment, capture_output=True, text=True, timeout=10
    )


def test_the_agent_starts_beside_the_app(slug: Slug, dynos: list[Dyno]) -> None:
    dynos.append(slug.boot("sleep 30", "web.1", 8123))
    wait_for(lambda: told(slug))
    assert told(slug) == [
        {
            "PORT": "8123",
            "FLY_PORT": "8123",
            "FLY_TOKEN": "fly_abc_secret",
            "FLY_REMOTE_ENDPOINT": "https://edge.example.com",
            "FLY_RELEASE_ID": "4f2a9c1",
            "FLY_RELEASE_DESC": None,
        }
    ]


def test_a_renamed_type_and_its_agent_agree_on_a_port(slug: Slug, dynos: list[Dyno]) -> None:
    dynos.append(slug.boot("env", "app.1"))
    wait_for(lambda: told(slug))
    dynos[0].process.wait(10)
    assert "PORT=5000\n" in dynos[0].said()
    assert (told(slug)[0]["PORT"], told(slug)[0]["FLY_PORT"]) == ("5000", "5000")


def test_a_renamed_type_gets_the_port_that_the_user_names(slug: Slug, dynos: list[Dyno]) -> None:
    slug.config |= {"FLY_PORT": "9000"}
    dynos.append(slug.boot("sleep 30", "app.1"))
    wait_for(lambda: told(slug))
    assert (told(slug)[0]["PORT"], told(slug)[0]["FLY_PORT"]) == ("9000", "9000")


def test_a_port_of_the_users_own_is_kept(slug: Slug, dynos: list[Dyno]) -> None:
    slug.config |= {"FLY_PORT": "9000"}
    dynos.append(slug.boot("sleep 30", "web.1", 8123))
    wait_for(lambda: told(slug))
    assert (told(slug)[0]["PORT"], told(slug)[0]["FLY_PORT"]) == ("8123", "9000")


@pytest.mark.parametrize(
    ("config", "release"),
    [
        ({}, "4f2a9c1"),
        ({"HEROKU_SLUG_COMMIT": "slug"}, "slug"),
        ({"HEROKU_SLUG_COMMIT": "slug", "HEROKU_BUILD_COMMIT": "build"}, "build"),
        ({"HEROKU_BUILD_COMMIT": "build", "FLY_RELEASE_ID": "mine"}, "mine"),
    ],
)
def test_where_the_release_comes_from(slug: Slug, dynos: list[Dyno], config: dict[str, str], release: str) -> None:
    slug.config |= config
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: told(slug))
    assert told(slug)[0]["FLY_RELEASE_ID"] == release


def test_a_description_of_many_lines_becomes_one(slug: Slug, dynos: list[Dyno]) -> None:
    slug.config |= {"HEROKU_SLUG_DESCRIPTION": 'Deploy "it"\nFLY_PORT=1'}
    dynos.append(slug.boot("sleep 30", "web.1", 8123))
    wait_for(lambda: told(slug))
    assert told(slug)[0]["FLY_RELEASE_DESC"] == 'Deploy "it" FLY_PORT=1'
    assert told(slug)[0]["FLY_PORT"] == "8123"


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("FLY_RELEASE_ID", "v1\nFLY_REMOTE_ENDPOINT=https://elsewhere.example", "v1"),
        ("FLY_RELEASE_ID", "-n", "-n"),
        ("FLY_RELEASE_DESC", "a\\nFLY_REMOTE_ENDPOINT=https://elsewhere.example", "a\\nFLY_REMOTE"),
        ("FLY_PORT", "81\nFLY_REMOTE_ENDPOINT=https://elsewhere.example", "81"),
    ],
)
def test_no_value_becomes_another_variable(slug: Slug, dynos: list[Dyno], name: str, value: str, seen: str) -> None:
    slug.config |= {name: value}
    (slug.folder / ".profile.d/a.sh").write_text("shopt -s xpg_echo\n")  # echo takes \n for a line end
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: told(slug))
    assert told(slug)[0][name].startswith(seen)
    assert told(slug)[0]["FLY_REMOTE_ENDPOINT"] == EDGE


@pytest.mark.parametrize("dyno", ["run.8213", "release.1", "scheduler.5", "worker.1", "", "worker-12a34b56d-e78f9"])
def test_other_dynos_are_left_alone(slug: Slug, dyno: str) -> None:
    done = printed(slug, 'echo "${FLY_REMOTE_ENDPOINT-unset}"', dyno)
    assert (done.returncode, done.stdout, done.stderr) == (0, "unset\n", "")
    assert told(slug) == []


@pytest.mark.parametrize("dyno", ["web.1", "app.12", "web-12a34b56d-e78f9", "app-5c9d7b8f6d-x2x4k"])
def test_dynos_of_both_generations_are_known(slug: Slug, dynos: list[Dyno], dyno: str) -> None:
    dynos.append(slug.boot("sleep 30", dyno))
    wait_for(lambda: told(slug))


def test_a_config_var_names_the_types(slug: Slug, dynos: list[Dyno]) -> None:
    slug.config |= {"FLY_PROCESS_TYPES": "api,\nfront"}
    assert printed(slug, "true", "web.1").returncode == 0
    assert told(slug) == []
    dynos.append(slug.boot("sleep 30", "front.2"))
    wait_for(lambda: told(slug))


def test_without_a_token_the_app_boots_and_one_line_says_so(slug: Slug) -> None:
    del slug.config["FLY_TOKEN"]
    done = printed(slug, "echo the app", "web.1")
    assert (done.returncode, done.stdout) == (0, "the app\n")
    assert len(done.stderr.splitlines()) == 1
    assert "FLY_TOKEN is not set" in done.stderr
    assert told(slug) == []


@pytest.mark.parametrize("no", ["", "0", "off", "No", "FALSE"])
def test_what_the_agent_takes_for_no_switches_nothing_off(slug: Slug, no: str) -> None:
    del slug.config["FLY_TOKEN"]
    assert "FLY_TOKEN is not set" in printed(slug, "echo the app", "web.1", FLY_DISABLED=no).stderr


def test_the_agent_can_be_switched_off(slug: Slug) -> None:
    done = printed(slug, "echo the app", "web.1", FLY_DISABLED="1")
    assert (done.stdout, done.stderr) == ("the app\n", "")
    assert told(slug) == []


@pytest.mark.parametrize(
    "options", ["", "set -u; ", "set -e; ", "set -eu; ", "set -euo pipefail; ", "set -fC; IFS=w.; "]
)
def test_the_script_ends_no_shell_whatever_its_options(slug: Slug, dynos: list[Dyno], options: str) -> None:
    (slug.folder / ".profile.d/a.sh").write_text(f"{options}\n")
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: told(slug))
    assert dynos[0].process.poll() is None


def test_the_script_survives_a_broken_slug(slug: Slug) -> None:
    os.remove(slug.folder / ".flyby/lib/dyno.sh")
    done = printed(slug, "echo the app", "web.1", "set -eu; ")
    assert (done.returncode, done.stdout) == (0, "the app\n")


def test_a_second_shell_in_the_dyno_starts_no_second_agent(slug: Slug, dynos: list[Dyno]) -> None:
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: told(slug))
    assert printed(slug, "true", "web.1").returncode == 0
    time.sleep(0.2)
    assert len(told(slug)) == 1


def test_an_agent_that_dies_is_started_again(slug: Slug, dynos: list[Dyno]) -> None:
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: told(slug))
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in dynos[0].members()}
    agents = [pid for pid, line in lines.items() if b"flyby-agent.pyz" in line]
    assert len(agents) == 1
    os.kill(agents[0], signal.SIGKILL)
    wait_for(lambda: len(told(slug)) == 2)
    assert "fly: the agent was ended by signal 9 and starts again in 1 s" in dynos[0].said()
    assert [line for line in dynos[0].said().splitlines() if not line.startswith("fly: ")] == []


def test_an_agent_that_cannot_work_is_let_go(slug: Slug, dynos: list[Dyno]) -> None:
    slug.config |= {"TELL_CODE": "78"}
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: told(slug))
    wait_for(lambda: len(list(dynos[0].members())) == 1)
    assert len(told(slug)) == 1


def test_term_to_the_dyno_ends_all_and_starts_nothing(slug: Slug, dynos: list[Dyno]) -> None:
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: told(slug))
    dynos[0].send(signal.SIGTERM)
    wait_for(lambda: not list(dynos[0].members()))
    assert len(told(slug)) == 1


@pytest.mark.parametrize("dyno", ["run.8213", "run-12a34b56d-e78f9", "worker.1", ""])
def test_the_agent_knows_the_edge_and_the_release_wherever_it_is_started(slug: Slug, dyno: str) -> None:
    done = printed(slug, "exec .flyby/bin/flyby-agent diagnose", dyno, TELL_CODE="0")
    assert done.returncode == 0, done.stderr
    [seen] = told(slug)
    assert (seen["FLY_REMOTE_ENDPOINT"], seen["FLY_RELEASE_ID"], seen["FLY_PORT"]) == (EDGE, "4f2a9c1", "5000")


def test_a_config_var_wins_over_the_edge_of_the_build_there_too(slug: Slug) -> None:
    slug.config |= {"FLY_REMOTE_ENDPOINT": "https://other.example", "FLY_PORT": "9"}
    assert printed(slug, "exec .flyby/bin/flyby-agent status", "run.1", TELL_CODE="0").returncode == 0
    assert (told(slug)[0]["FLY_REMOTE_ENDPOINT"], told(slug)[0]["FLY_PORT"]) == ("https://other.example", "9")


SUPERVISED = ".flyby/bin/flyby-agent -- sleep 30"


@pytest.mark.parametrize("types", [None, "none", "app,web"])
@pytest.mark.parametrize("dyno", ["app.1", "web.1"])
def test_an_app_under_the_agent_has_one_agent(
    platform: Platform, dynos: list[Dyno], dyno: str, types: str | None
) -> None:
    slug = platform.slug(APP | {"Procfile": f"{dyno[:3]}: {SUPERVISED}\n"})
    built = slug.compile()
    assert f"The Procfile starts it itself in: {dyno[:3]}" in built.stdout
    slug.config = {"FLY_TOKEN": "fly_abc_secret"} | ({"FLY_PROCESS_TYPES": types} if types else {})
    dynos.append(slug.boot(SUPERVISED, dyno))
    wait_for(lambda: told(slug))
    time.sleep(0.2)
    [seen] = told(slug)
    assert (seen["FLY_REMOTE_ENDPOINT"], seen["PORT"], seen["FLY_PORT"]) == (EDGE, "5000", "5000")


def test_an_app_under_the_agent_runs_in_a_dyno_without_any_python(slug: Slug, platform: Platform) -> None:
    slug.path = without_python(platform.folder / "bin")
    script = (slug.folder / ".flyby/bin/flyby-agent").read_text().replace("/usr/bin/python3", "/nonexistent/python3")
    (slug.folder / ".flyby/bin/flyby-agent").write_text(script)
    done = printed(slug, "exec .flyby/bin/flyby-agent --region eu -- sh -c 'echo $0 on $PORT' 'the app'", "run.1")
    assert (done.returncode, done.stdout) == (0, "the app on 5000\n")
    assert "FLY_PYTHON=vendor" in done.stderr


def test_the_number_of_another_process_is_not_taken_for_the_agents(slug: Slug, dynos: list[Dyno]) -> None:
    (slug.scratch("web.1") / "flyby-agent.pid").write_text(f"{os.getpid()}\n")
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: told(slug))


def test_a_dyno_without_any_python_says_what_to_do(slug: Slug, platform: Platform, dynos: list[Dyno]) -> None:
    slug.path = without_python(platform.folder / "bin")
    script = (slug.folder / ".flyby/bin/flyby-agent").read_text().replace("/usr/bin/python3", "/nonexistent/python3")
    (slug.folder / ".flyby/bin/flyby-agent").write_text(script)
    dynos.append(slug.boot("sleep 30"))
    wait_for(lambda: "FLY_PYTHON=vendor" in dynos[0].said())
