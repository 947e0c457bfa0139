"""The Cloud Native buildpack, as the lifecycle and the launcher call it (Buildpack API 0.10: detect, build, exec.d)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.heroku.conftest import Platform
from tests.heroku.heroku import Dyno
from tests.heroku.test_boot import wait_for

APP = {"package.json": "{}", "Procfile": "app: node server.js\n"}


class Lifecycle:
    """One build of one app, and the launch of what came of it."""

    def __init__(self, platform: Platform) -> None:
        self.pack = platform.pack
        self.app = platform.slug(APP).folder
        self.layers = platform.folder / "layers"
        self.platform = platform.folder / "platform"
        self.plan = platform.folder / "plan.toml"
        self.log = platform.folder / "launch.log"
        self.layers.mkdir()
        (self.platform / "env").mkdir(parents=True)
        self.plan.touch()
        self.setting("FLY_PYTHON_URL", platform.python.url)
        self.setting("FLY_PYTHON_SHA256", platform.python.sha256)

    def setting(self, name: str, value: str) -> None:
        (self.platform / "env" / name).write_text(value)

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment |= {
            "PATH": os.environ["PATH"],
            "CNB_PLATFORM_DIR": str(self.platform),
            "CNB_BUILDPACK_DIR": str(self.pack),
        }
        return subprocess.run(
            [self.pack / "bin" / script], cwd=self.app, env=environment, capture_output=True, text=True, timeout=60
        )

    def detect(self) -> subprocess.CompletedProcess[str]:
        return self.run("detect", CNB_BUILD_PLAN_PATH=str(self.plan))

    def build(self) -> subprocess.CompletedProcess[str]:
        return self.run("build", CNB_LAYERS_DIR=str(self.layers), CNB_BP_PLAN_PATH=str(self.plan))

    def exec_d(self, launcher: str = "launcher", **environment: str) -> tuple[dict[str, str], Dyno]:
        """Runs the layer's exec.d as the launcher does; what it wrote to descriptor 3, read to its end.

        `launcher` is the name under which the launcher was started: /cnb/process/TYPE is a link to it for each type.
        """
        reading, writing = os.pipe()
        environment |= {"PATH": os.environ["PATH"], "HOME": str(self.app), "TMPDIR": str(self.layers)}
        # The launcher is the parent of exec.d and stays; `:` keeps this bash from becoming its last command.
        script = f'"$1" 3>&{writing} {writing}>&-; code=$?; :; exit $code'
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [launcher, "-c", script, launcher, str(self.layers / "agent/exec.d/flyby")],
                executable=shutil.which("bash"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        process.wait(10)
        with open(reading, "rb") as written:
            return tomllib.loads(written.read().decode()), Dyno(process, self.log)


@pytest.fixture
def lifecycle(platform: Platform) -> Lifecycle:
    return Lifecycle(platform)


def test_detect_takes_any_app(lifecycle: Lifecycle) -> None:
    assert lifecycle.detect().returncode == 0


def test_detect_stands_aside_when_told(lifecycle: Lifecycle) -> None:
    lifecycle.setting("FLY_DISABLED", "1")
    assert lifecycle.detect().returncode == 100
    for no in ("0\n", "false", "False", "no", "off", "OFF"):  # what the agent itself takes for no
        lifecycle.setting("FLY_DISABLED", no)
        assert lifecycle.detect().returncode == 0, no


def test_build_makes_a_launch_layer_and_a_cached_one(lifecycle: Lifecycle) -> None:
    done = lifecycle.build()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("-----> Installing Fly Agent\n")
    assert tomllib.loads((lifecycle.layers / "agent.toml").read_text()) == {"types": {"launch": True}}
    assert tomllib.loads((lifecycle.layers / "archives.toml").read_text()) == {"types": {"cache": True}}
    assert os.access(lifecycle.layers / "agent/exec.d/flyby", os.X_OK)
    assert sorted(path.name for path in lifecycle.app.iterdir()) == ["Procfile", "package.json"]


def test_a_second_build_uses_the_cached_archive(lifecycle: Lifecycle) -> None:
    assert lifecycle.build().returncode == 0
    assert "from the cache" in lifecycle.build().stdout


def test_a_build_that_fails_says_why(lifecycle: Lifecycle) -> None:
    lifecycle.setting("FLY_PYTHON_SHA256", "0" * 64)
    done = lifecycle.build()
    assert done.returncode != 0
    assert " !     " in done.stderr


def test_exec_d_sets_the_environment_and_starts_the_agent(lifecycle: Lifecycle) -> None:
    assert lifecycle.build().returncode == 0
    added, dyno = lifecycle.exec_d(
        DYNO="app-5c9d7b8f6d-x2x4k", FLY_TOKEN="fly_abc_secret", HEROKU_BUILD_DESCRIPTION='a "quoted" \\ thing'
    )
    try:
        assert added["PORT"] == added["FLY_PORT"] == "5000"
        assert added["FLY_RELEASE_DESC"] == 'a "quoted" \\ thing'
        assert "FLY_TOKEN" not in added
        log = lifecycle.app / "agent.log"
        wait_for(log.exists)
        wait_for(log.read_text)
        assert json.loads(log.read_text())["FLY_TOKEN"] == "fly_abc_secret"
    finally:
        dyno.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    "environment",
    [
        {"DYNO": "worker-5c9d7b8f6d-x2x4k", "FLY_TOKEN": "x"},
        {"DYNO": "worker.1", "FLY_TOKEN": "x", "launcher": "/cnb/process/web"},
        {"DYNO": "app.1"},
        {},
        {"launcher": "/cnb/process/worker", "FLY_TOKEN": "x"},
        {"launcher": "/cnb/process/web", "FLY_TOKEN": "x", "FLY_PROCESS_TYPES": "api"},
        {"launcher": "/cnb/process/web", "FLY_TOKEN": "x", "FLY_DISABLED": "1"},
    ],
)
def test_exec_d_leaves_others_alone(lifecycle: Lifecycle, environment: dict[str, str]) -> None:
    assert lifecycle.build().returncode == 0
    added, dyno = lifecycle.exec_d(**environment)
    assert added == {}
    assert list(dyno.members()) == []
    assert "process type is not known" not in dyno.said()


@pytest.mark.parametrize(
    "environment",
    [
        {"launcher": "/cnb/process/app"},
        {"launcher": "/cnb/process/api", "FLY_PROCESS_TYPES": "web,api"},
    ],
)
def test_outside_heroku_the_launcher_tells_the_process_type(lifecycle: Lifecycle, environment: dict[str, str]) -> None:
    assert lifecycle.build().returncode == 0
    added, dyno = lifecycle.exec_d(FLY_TOKEN="fly_abc_secret", **environment)
    try:
        assert added["PORT"] == "5000"
        assert "FLY_RELEASE_ID" not in added  # nobody said one, and an empty one is no release
        wait_for((lifecycle.app / "agent.log").exists)
    finally:
        dyno.stop(signal.SIGKILL)


def test_where_the_process_type_is_not_known_one_line_says_so(lifecycle: Lifecycle) -> None:
    assert lifecycle.build().returncode == 0
    added, dyno = lifecycle.exec_d(FLY_TOKEN="fly_abc_secret", FLY_PROCESS_TYPES="web")
    assert added == {}
    [line] = dyno.said().splitlines()
    assert line.startswith("fly: no agent is started, because the process type is not known")


def test_the_descriptor_names_the_targets(telling_pack: Path) -> None:
    descriptor = tomllib.loads((telling_pack / "buildpack.toml").read_text())
    assert {(target["os"], target["arch"]) for target in descriptor["targets"]} == {
        ("linux", "amd64"),
        ("linux", "arm64"),
    }
