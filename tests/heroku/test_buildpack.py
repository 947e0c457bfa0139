"""The classic buildpack, script by script, as the platform calls them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flyby import __version__
from tests.heroku.conftest import Platform
from tests.heroku.heroku import Slug, without_python

PYTHON_APP = {"requirements.txt": "flask\n", "app.py": "", "Procfile": "web: gunicorn app:app\n"}
NODE_APP = {"package.json": "{}", "Procfile": "web: node server.js\nworker: node worker.js\n"}


def written(slug: Slug) -> set[str]:
    return {
        str(path.relative_to(slug.folder)) for path in slug.folder.rglob("*") if path.is_file() or path.is_symlink()
    }


def test_detect_takes_any_app(telling_pack: Path, tmp_path: Path) -> None:
    done = subprocess.run([telling_pack / "bin/detect", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Fly agent\n", "")


def test_release_neither_invents_nor_erases_process_types(telling_pack: Path, tmp_path: Path) -> None:
    done = subprocess.run([telling_pack / "bin/release", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "--- {}\n")


def test_compile_tells_what_it_does(platform: Platform) -> None:
    slug = platform.slug(NODE_APP)
    done = slug.compile(SOURCE_VERSION="4f2a9c1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "-----> Installing Fly Agent"
    assert "-----> Writing .profile.d/" in lines
    for line in lines:
        assert line.startswith(("-----> ", "       ")), line
    assert any("flyby-agent 9.9.9" in line and "dials https://edge.example.com" in line for line in lines)
    assert any("MiB" in line for line in lines)
    assert (slug.folder / ".flyby/release").read_text() == "4f2a9c1\n"


def test_compile_writes_under_two_folders_only(platform: Platform) -> None:
    slug = platform.slug(NODE_APP)
    before = written(slug)
    assert slug.compile().returncode == 0
    new = written(slug) - before
    assert {name.split("/")[0] for name in new} == {".flyby", ".profile.d"}
    assert before <= written(slug)
    assert not list(slug.folder.glob(".flyby.new*"))


def test_compile_again_replaces_what_it_wrote(platform: Platform) -> None:
    slug = platform.slug(NODE_APP)
    assert slug.compile().returncode == 0
    before = written(slug)
    done = slug.compile()
    assert done.returncode == 0
    assert written(slug) == before
    assert "from the cache" in done.stdout


def test_no_config_var_is_written_to_the_slug(platform: Platform) -> None:
    slug = platform.slug(NODE_APP)
    slug.config |= {"FLY_TOKEN": "fly_abc_topsecret", "DATABASE_URL": "postgres://topsecret"}
    assert slug.compile(SOURCE_VERSION="4f2a9c1").returncode == 0
    for path in (slug.folder / ".flyby").rglob("*"):
        if path.is_file() and "python" not in path.parts:
            assert b"topsecret" not in path.read_bytes(), path


def test_compile_works_where_there_is_no_python(platform: Platform, tmp_path: Path) -> None:
    slug = platform.slug({})
    slug.path = without_python(tmp_path / "bin")
    done = slug.compile()
    assert done.returncode == 0, done.stderr
    assert (slug.folder / ".flyby/python/bin/python3").exists()


def test_a_python_app_brings_its_own(platform: Platform) -> None:
    slug = platform.slug(PYTHON_APP)
    done = slug.compile()
    assert done.returncode == 0
    assert "Python: the app's own" in done.stdout
    assert not (slug.folder / ".flyby/python").exists()


@pytest.mark.parametrize(
    "more",
    [
        {"package.json": "{}"},
        {"Gemfile": ""},
        {"Shop.csproj": ""},
        {"src/Shop.fsproj": ""},
        {"my shop.sln": ""},
        {"Shop.slnx": ""},
        {"deno.json": "{}"},
        {"bun.lock": ""},
        {"Package.swift": ""},
        {"deps.edn": ""},
        {".python-version": "3.8\n"},
        {"runtime.txt": "python-3.8.18\n"},
    ],
)
def test_in_doubt_a_python_is_vendored(platform: Platform, more: dict[str, str]) -> None:
    slug = platform.slug(PYTHON_APP | more)
    assert slug.compile().returncode == 0
    assert (slug.folder / ".flyby/python/bin/python3").exists()


def test_a_list_of_packages_without_python_source_is_no_python_app(platform: Platform) -> None:
    slug = platform.slug({"requirements.txt": "ansible\n", "main.lang": ""})
    assert slug.compile().returncode == 0
    assert (slug.folder / ".flyby/python/bin/python3").exists()


def test_the_signs_are_looked_for_in_the_app_and_not_where_the_build_runs(platform: Platform) -> None:
    slug = platform.slug(PYTHON_APP)
    assert slug.compile().returncode == 0  # this very folder is full of files that the patterns match
    assert not (slug.folder / ".flyby/python").exists()


def test_the_agents_version_is_shown_where_no_python_can_run_it(platform: Platform, tmp_path: Path) -> None:
    slug = platform.slug(PYTHON_APP)
    slug.path = without_python(tmp_path / "bin")
    done = slug.compile()
    assert done.returncode == 0, done.stderr
    assert f"Agent: flyby-agent {__version__}, " in done.stdout


def test_a_config_var_decides_by_hand(platform: Platform) -> None:
    ours = platform.slug(PYTHON_APP, "ours")
    ours.config["FLY_PYTHON"] = "vendor"
    assert ours.compile().returncode == 0
    assert (ours.folder / ".flyby/python").exists()
    own = platform.slug(NODE_APP, "own")
    own.config["FLY_PYTHON"] = "app"
    assert own.compile().returncode == 0
    assert not (own.folder / ".flyby/python").exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"FLY_PYTHON": "mine"}, "FLY_PYTHON"),
        ({"FLY_PYTHON_URL": "file:///nonexistent", "FLY_PYTHON_SHA256": ""}, "FLY_PYTHON_SHA256"),
        ({"FLY_PYTHON_URL": "file:///nonexistent", "FLY_PYTHON_SHA256": "0" * 64}, "could not be fetched"),
        ({"FLY_PYTHON_SHA256": "0" * 64}, "has not the SHA-256"),
        ({"FLY_PYTHON_SHA256": "../../etc/motd"}, "is not 64 hexadecimal digits"),
    ],
)
def test_what_fails_fails_the_build(platform: Platform, config: dict[str, str], words: str) -> None:
    slug = platform.slug(NODE_APP)
    slug.config |= config
    done = slug.compile()
    assert done.returncode != 0
    assert any(line.startswith(" !     ") and words in line for line in done.stderr.splitlines()), done.stderr
    assert not (slug.folder / ".flyby").exists()
    assert not (slug.folder / ".profile.d").exists()


def test_a_build_tells_no_secret_of_an_address(platform: Platform) -> None:
    slug = platform.slug(NODE_APP)
    slug.config |= {"FLY_PYTHON_URL": "http://me:hush@127.0.0.1:1/x.tgz?sig=hush", "FLY_PYTHON_SHA256": "0" * 64}
    done = slug.compile()
    assert "http://127.0.0.1:1/x.tgz" in done.stderr
    assert "hush" not in done.stdout + done.stderr


def test_a_folder_in_the_scripts_place_fails_the_build(platform: Platform) -> None:
    done = platform.slug(PYTHON_APP | {".profile.d/flyby.sh/mine.sh": ""}).compile()
    assert done.returncode != 0
    assert " !     " in done.stderr


def test_an_agent_that_does_not_run_fails_the_build(platform: Platform, telling_pack: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(telling_pack, tmp_path / "broken")
    (broken / "agent/flyby-agent.pyz").write_bytes(b"<html>404</html>")
    slug = platform.slug(NODE_APP)
    slug.pack = broken
    done = slug.compile()
    assert done.returncode != 0
    assert " !     the agent does not run" in done.stderr


def test_a_folder_of_the_apps_own_is_not_overwritten(platform: Platform) -> None:
    slug = platform.slug({".flyby/notes.txt": "mine"})
    done = slug.compile()
    assert done.returncode != 0
    assert "rename it" in done.stderr
    assert (slug.folder / ".flyby/notes.txt").read_text() == "mine"


def test_test_compile_installs_the_same(platform: Platform) -> None:
    slug = platform.slug(NODE_APP)
    assert slug.compile("test-compile").returncode == 0
    assert (slug.folder / ".profile.d/flyby.sh").exists()


@pytest.mark.parametrize(
    ("procfile", "types"),
    [
        (None, "web"),
        ("web: bin/web\nworker: bin/worker\n", "web"),
        ("web: bin/web\napi: bin/api -p $PORT\n", "web"),
        ("app: bin/web\n", "web app"),
        ("app: bin/web\nworker: bin/worker\nrelease: bin/migrate\n", "web app"),
        ("front: bin/web -p $PORT\nmailer: bin/mail\n", "web front"),
        ("front: bin/front\nmailer: bin/mail\n", "web"),
        ("worker: bin/worker\n", "web"),
        ("app: bin/web\r\n", "web app"),
        ("app: bin/web", "web app"),
        ("# app: bin/web\n", "web"),
        ("reporter: bin/report $REPORT_DIR\napp: bin/app ${PORT:-80}\n", "web app"),
        ('reporter: bin/report $PORTAL\napp: bin/app "$PORT"\n', "web app"),
        ("reporter: bin/report ${PORTS}\napp: bin/app -b 0:$PORT,1\n", "web app"),
        ("reporter: bin/report PORT SUPPORT\napp: sh -c 'bin/app ${PORT}'\n", "web app"),
        ("reporter: bin/report $PORT_OF_DB\napp: bin/app\n", "web"),
        ("app: bin/app --port=$PORT\n", "web app"),
    ],
)
def test_the_procfile_tells_who_serves_http(platform: Platform, procfile: str | None, types: str) -> None:
    slug = platform.slug(PYTHON_APP | {"Procfile": procfile} if procfile is not None else {"requirements.txt": ""})
    assert slug.compile().returncode == 0
    assert (slug.folder / ".flyby/process-types").read_text() == f"{types}\n"


@pytest.mark.parametrize("procfile", ["front: bin/front\nmailer: bin/mail\n", "worker: bin/worker\n"])
def test_a_build_that_will_connect_no_dyno_says_so(platform: Platform, procfile: str) -> None:
    slug = platform.slug(PYTHON_APP | {"Procfile": procfile})
    done = slug.compile()
    assert done.returncode == 0
    assert "starts the agent in" not in done.stdout
    loud = [line for line in done.stderr.splitlines() if line.startswith(" !     ")]
    assert any("NO DYNO of this app WILL BE CONNECTED" in line for line in loud), done.stderr
    assert any("FLY_PROCESS_TYPES" in line for line in loud)
    names = {line.partition(":")[0] for line in procfile.splitlines()}
    assert any(names <= set(re.findall(r"\w+", line)) for line in loud)


def test_types_that_a_config_var_names_are_shown(platform: Platform) -> None:
    slug = platform.slug(PYTHON_APP | {"Procfile": "front: bin/front\nmailer: bin/mail\n"})
    slug.config |= {"FLY_PROCESS_TYPES": "front"}
    done = slug.compile()
    assert "flyby.sh starts the agent in: front (FLY_PROCESS_TYPES)" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "supervised"),
    [
        (".flyby/bin/flyby-agent -- bin/web", "app"),
        ("exec flyby-agent --region eu -- bin/web", "app"),
        ("bash -c '.flyby/bin/flyby-agent & bin/web'", "app"),
        ("bin/my-flyby-agent-notes", ""),
        ("bin/web flyby-agents", ""),
    ],
)
def test_a_type_whose_command_starts_the_agent_is_noted(platform: Platform, command: str, supervised: str) -> None:
    slug = platform.slug(PYTHON_APP | {"Procfile": f"app: {command}\nmailer: bin/mail\nother: x\n"})
    assert slug.compile().returncode == 0
    assert (slug.folder / ".flyby/supervised-types").read_text() == f"{supervised}\n"


@pytest.mark.parametrize(
    ("procfile", "lines"),
    [
        ("web: flyby-agent -- bin/web\n", ["The Procfile starts it itself in: web"]),
        (
            "web: bin/web\nadmin: flyby-agent -- bin/admin\n",
            ["flyby.sh starts the agent in: web", "The Procfile starts it itself in: admin"],
        ),
    ],
)
def test_each_place_where_an_agent_starts_is_said_once(platform: Platform, procfile: str, lines: list[str]) -> None:
    done = platform.slug(PYTHON_APP | {"Procfile": procfile}).compile()
    assert [line.strip() for line in done.stdout.splitlines() if " in: " in line] == lines


def test_the_scripts_pass_shellcheck(telling_pack: Path) -> None:
    scripts = [path for folder in ("bin", "lib", "boot") for path in sorted((telling_pack / folder).iterdir())]
    # Beside the interpreter, whether or not its environment is the shell's.
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck is not None, "shellcheck is missing: pip install 'flyby[test]'"
    done = subprocess.run([shellcheck, "-x", *scripts], capture_output=True, text=True, cwd=telling_pack)
    assert done.returncode == 0, done.stdout
