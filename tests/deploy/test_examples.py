"""The files of examples/ say what is so: each is read, checked, or carried out as far as that goes without Docker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyby.config import Config
from flyby_agent.archive import zipapp
from flyby_agent.settings import TABLE
from tests.certificates import issue
from tests.deploy import dockerfile
from tests.edge import PACKAGES

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
UNIT = EXAMPLES / "agent/flyby-agent.service"
VARIABLES = {variable for _, variable, _, _ in TABLE} | {"FLY_RUNTIME_DIR"}


def shell_blocks() -> Iterator[str]:
    yield from re.findall(r"^```console\n(.*?)^```", (ROOT / "docs/deploy.md").read_text(), re.M | re.S)


def test_the_edges_configuration_is_one() -> None:
    config = Config.load(EXAMPLES / "edge/flyby.toml")
    assert config.server.listen == [":80"]
    assert config.problems("flyby.toml") == []


def test_the_edges_image_starts_what_its_configuration_needs() -> None:
    steps = dockerfile.read(EXAMPLES / "edge/Dockerfile")
    last = {each.word: each.text for each in steps if each.stage == 1}
    assert json.loads(last["ENTRYPOINT"]) + json.loads(last["CMD"]) == ["flyby", "serve", "-c", "/etc/flyby/flyby.toml"]
    [copied] = [each.text for each in steps if each.stage == 1 and each.word == "COPY"]
    assert copied == "examples/edge/flyby.toml /etc/flyby/flyby.toml"
    assert last["USER"] == "flyby"
    assert "STATE_DIRECTORY=/var/lib/flyby" in last["ENV"]
    assert last["VOLUME"] == "/var/lib/flyby"
    assert set(last["EXPOSE"].split()) >= {"80", "443"}
    assert last["STOPSIGNAL"] == "SIGTERM"


def test_the_image_is_built_from_what_the_build_needs_and_no_more() -> None:
    lines = (EXAMPLES / "edge/Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert sent == {"LICENSE", "README.md", "examples/edge/flyby.toml", "pyproject.toml", "setup.py", "src"}
    assert all((ROOT / name).exists() for name in sent)


def test_the_agents_image_has_the_agent_around_its_app(tmp_path: Path) -> None:
    steps = dockerfile.read(EXAMPLES / "agent/Dockerfile")
    last = {each.word: each.text for each in steps}
    assert json.loads(last["ENTRYPOINT"]) == ["flyby-agent", "--"]
    assert set(re.findall(r"(FLY_\w+)=", last["ENV"])) <= VARIABLES
    assert "FLY_TOKEN" not in last["ENV"]
    program = tmp_path / "flyby-agent"
    program.write_bytes(zipapp())
    command = dockerfile.step(steps, "--version").replace("/usr/local/bin/flyby-agent", str(program))
    command = command.replace("&& flyby-agent", f"&& {program}")
    done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout[:11]) == (0, "flyby-agent")


def test_without_a_token_the_agents_image_runs_its_app_all_the_same(tmp_path: Path) -> None:
    program = tmp_path / "flyby-agent"
    program.write_bytes(zipapp())
    app = ["sh", "-c", "echo listening on $PORT"]
    environment = {"PATH": "/usr/bin:/bin", "FLY_REMOTE_ENDPOINT": "https://edge.example.com", "PORT": "8000"}
    command = [sys.executable, str(program), "--", *app]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "listening on 8000\n")
    assert done.stderr.startswith("fly: error: FLY_TOKEN is not set")


def test_the_compose_file_names_settings_that_there_are() -> None:
    text = (EXAMPLES / "agent/compose.yaml").read_text()
    assert set(re.findall(r"^ {6}(FLY_\w+):", text, re.M)) == {
        "FLY_TOKEN",
        "FLY_REMOTE_ENDPOINT",
        "FLY_PORT",
        "FLY_RELEASE_ID",
    }
    # One network: the app is on the agent's own 127.0.0.1.
    assert "network_mode: service:app" in text
    # More than the agent takes for its drain.
    for seconds in re.findall(r"stop_grace_period: (\d+)s", text):
        assert int(seconds) > 22
    compose = shutil.which("docker-compose")
    if compose is not None:
        done = subprocess.run([compose, "-f", EXAMPLES / "agent/compose.yaml", "config", "-q"], env={"FLY_TOKEN": "x"})
        assert done.returncode == 0


def test_the_agents_unit_names_settings_that_there_are() -> None:
    text = UNIT.read_text()
    given = dict(re.findall(r"(FLY_\w+)=(\S+)", "\n".join(re.findall(r"^Environment=(.*)", text, re.M))))
    assert set(given) <= VARIABLES
    assert "FLY_TOKEN" not in given
    [directory] = re.findall(r"^RuntimeDirectory=(.*)", text, re.M)
    assert given["FLY_RUNTIME_DIR"] == f"/run/{directory}"
    [stop] = re.findall(r"^TimeoutStopSec=(\d+)", text, re.M)
    assert int(stop) > 22 + 2
    assert re.search(r"^RestartPreventExitStatus=78$", text, re.M)


def test_systemd_takes_the_agents_unit(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("systemd is not here")
    path = tmp_path / "flyby-agent.service"
    path.write_text(UNIT.read_text())
    ran = subprocess.run([verifier, "verify", path], capture_output=True, text=True)
    assert (ran.returncode, [line for line in ran.stderr.splitlines() if str(path) in line]) == (0, [])


def test_the_pages_lines_for_tls_are_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    [first] = re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)
    [later] = re.findall(r"^```\n(\[server\]\n.*?)^```", text, re.M | re.S)
    certificate, key = issue(tmp_path, "edge", "edge.example.com")
    for name, path in (("fullchain.pem", certificate), ("privkey.pem", key)):
        later = re.sub(rf'"[^"]*/{name}"', f'"{path}"', later)
    server, tls = later.split("\n\n", 1)
    listen = server.partition("\n")[2]
    whole = re.sub(r"^listen = .*$", listen, first, flags=re.M) + tls
    config = Config.from_text(whole.replace("/run/flyby/", f"{tmp_path}/"))
    assert config.server.listen == [":80", "https://:443"]
    assert len(config.server.tls) == 1


def test_the_files_that_the_page_names_are_there() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    named = set(re.findall(r"(examples/[\w./-]+\w|docs/[\w.]+\.service)", text))
    assert len(named) >= 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_commands_of_the_page_are_commands_of_flyby() -> None:
    for block in shell_blocks():
        for command in re.findall(r"(?:^\$ |bin/|exec flyby )flyby ([a-z]+ [a-z]+|[a-z]+)", block, re.M):
            asked = [sys.executable, "-m", "flyby", *command.split(), "--help"]
            environment = {"PYTHONPATH": PACKAGES, "PATH": "/usr/bin:/bin"}
            done = subprocess.run(asked, env=environment, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, ""), command
