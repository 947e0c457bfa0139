"""The agent as a process: how it ends, how it runs an app, what it says of itself, and the file that it is built as."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from flyby import __version__ as flyby_version
from flyby_agent import __version__
from flyby_agent.archive import zipapp
from tests.agent.conftest import Stage
from tests.agent.dyno import PACKAGES, AgentProcess, answer
from tests.agent.edge import WAIT_S, until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGES}


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flyby_agent", *arguments],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


def test_sigterm_deregisters_first_and_lets_what_is_in_flight_end(stage: Stage) -> None:
    go = threading.Event()

    def slow(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        go.wait(20)
        connection.sendall(b"56789")

    edge, app = stage.edge(), stage.app(slow)
    agent = stage.agent(edge, app)
    edge.wait_idle(2)
    busy = edge.take()
    busy.send(GET)
    busy.read_until(b"01234")
    idle = edge.take()
    control = edge.control()
    agent.send_signal(signal.SIGTERM)
    until(lambda: edge.said("drain"), "the drain")
    # A request that crossed it was not passed on, so that another dyno may have it.
    status, fields, _ = idle.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
    assert (status, fields["flyby-refused"]) == (503, "draining")
    assert agent.process.poll() is None
    go.set()
    assert busy.read(5) == b"56789"
    assert agent.wait() == 0
    assert control.messages[-1] == {"type": "drain"}
    assert len(app.requests) == 1


def test_a_drain_has_an_end(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app(lambda connection, request: threading.Event().wait(20))
    agent = stage.agent(edge, app, FLY_DRAIN_SECONDS="0.3")
    link = edge.take()
    link.send(GET)
    until(lambda: app.requests, "the request")
    agent.send_signal(signal.SIGTERM)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert link.read_to_end() == (b"", "reset")
    agent.wait_for("1 requests were still in flight")


def test_an_edge_that_never_says_drained_does_not_hold_the_agent(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    edge.drains = False
    agent = stage.agent(edge, app, FLY_DRAIN_SECONDS="0.3")
    edge.wait_idle(2)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait() == 0


def test_sighup_means_nothing(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    agent = stage.agent(edge, app)
    edge.wait_idle(2)
    agent.send_signal(signal.SIGHUP)
    agent.wait_for("nothing to reload")
    assert edge.take().ask(GET)[0] == 200


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({}, 78, "fly: error: FLY_TOKEN is not set"),
        ({"FLY_TOKEN": "t"}, 78, "fly: error: FLY_REMOTE_ENDPOINT is not set"),
        ({"FLY_TOKEN": "t", "FLY_LOG_LEVEL": "x"}, 78, "fly: error: FLY_LOG_LEVEL"),
        ({"FLY_DISABLED": "1"}, 0, "fly: no agent runs here: FLY_DISABLED is set"),
        ({"DYNO": "release.1"}, 0, "fly: no agent runs here: a process of type release"),
    ],
)
def test_settings_that_end_it(environment: dict[str, str], code: int, said: str) -> None:
    ran = command(**environment)
    assert ran.returncode == code
    assert ran.stderr.startswith(said)
    assert ran.stderr.count("\n") == 1
    assert ran.stdout == ""
    # The app runs all the same.
    ran = command("--", "sh", "-c", "echo app; exit 7", **environment)
    assert (ran.returncode, ran.stdout) == (7, "app\n")
    assert ran.stderr.startswith(said)


@pytest.mark.parametrize("arguments", [("--",), ("--nothing",), ("status", "--", "x"), ("sing",)])
def test_wrong_use(arguments: tuple[str, ...]) -> None:
    ran = command(*arguments)
    assert ran.returncode == 2
    assert "usage: flyby-agent" in ran.stderr


def test_an_authority_file_without_certificates_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("")
    ran = command(FLY_TOKEN="t", FLY_REMOTE_ENDPOINT="https://127.0.0.1:1", FLY_CA_FILE=str(empty))
    assert ran.returncode == 78
    assert ran.stderr.startswith("fly: error: the agent cannot start: ")


CHILD = """\
import os, signal, sys
print("argv", sys.argv[1:], flush=True)
print("PORT", os.environ.get("PORT"), flush=True)
print("ignored", signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN, flush=True)
def told(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(3)
for name in ("HUP", "USR1", "USR2", "INT", "QUIT", "TERM", "WINCH"):
    signal.signal(getattr(signal, "SIG" + name), told)
print("here", flush=True)
while True:
    signal.pause()
"""


def supervisor(stage: Stage, url: str, port: int, *child: str) -> AgentProcess:
    return stage.agent(url, port, "--", *child)


def test_a_supervisor_keeps_argv_passes_signals_on_and_ends_with_the_childs_code(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    agent = supervisor(stage, edge.url, app.port, sys.executable, "-c", CHILD, "two words", "$HOME", "", "--", "*")
    agent.wait_for("here")
    edge.wait_idle(2)
    assert "argv ['two words', '$HOME', '', '--', '*']" in agent.said()
    assert f"PORT {app.port}" in agent.said()
    for name in ("HUP", "USR1", "USR2", "INT", "QUIT", "WINCH"):
        agent.send_signal(getattr(signal, "SIG" + name))
        agent.wait_for(f"got SIG{name}")
    agent.send_signal(signal.SIGTERM)
    assert agent.wait() == 3
    assert agent.said().count("got SIGTERM") == 1


def test_a_supervisor_tells_the_edge_before_the_app(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    edge.drains = False
    agent = supervisor(stage, edge.url, app.port, sys.executable, "-c", CHILD)
    agent.wait_for("here")
    edge.wait_idle(2)
    agent.send_signal(signal.SIGTERM)
    control = edge.control()
    until(lambda: edge.said("drain"), "the drain")
    assert "got SIGTERM" not in agent.said()
    control.tell({"type": "drained", "in_flight": 0})
    assert agent.wait() == 3


LAST_WORDS = """\
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    if connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3000000\\r\\n\\r\\n" + bytes(3000000))
        sys.exit(5)
"""


def test_what_a_child_said_last_still_reaches_the_edge(stage: Stage) -> None:
    edge = stage.edge()
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    agent = supervisor(stage, edge.url, port, sys.executable, "-c", LAST_WORDS, str(port))
    link = edge.take()
    link.send(GET)
    assert link.response()[2].count(0) == 3_000_000
    assert agent.wait() == 5


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 41", 41), ("kill -KILL $$", 137), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)],
)
def test_a_supervisors_code_is_its_childs(stage: Stage, script: str, code: int) -> None:
    agent = supervisor(stage, "http://127.0.0.1:1", 1, "sh", "-c", script)
    assert agent.wait() == code


def test_a_child_that_cannot_be_started(stage: Stage, tmp_path: Path) -> None:
    assert supervisor(stage, "http://127.0.0.1:1", 1, "/does/not/exist").wait() == 127
    plain = tmp_path / "plain"
    plain.write_text("x")
    agent = supervisor(stage, "http://127.0.0.1:1", 1, str(plain))
    assert agent.wait() == 126
    assert "Permission denied" in agent.said()


def test_a_child_that_does_not_end_is_killed(stage: Stage) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
    )
    agent = stage.agent("http://127.0.0.1:1", 1, "--drain-seconds", "0", "--", sys.executable, "-c", stubborn)
    agent.wait_for("here")
    agent.send_signal(signal.SIGTERM)
    assert agent.wait() == 137


def test_a_supervisor_reaps_what_is_left_to_it(stage: Stage) -> None:
    """An orphan comes to the nearest subreaper: here the agent, as it would to process 1."""
    reaper = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); "
        "from flyby_agent.command import main; sys.exit(main())"
    )
    orphan = "(sh -c 'echo orphan $$; sleep 0.2' &) ; sleep 0.1; echo parent; read x < /dev/zero; sleep 30"
    agent = AgentProcess(
        "--",
        "sh",
        "-c",
        orphan,
        environment={"FLY_TOKEN": "t", "FLY_REMOTE_ENDPOINT": "http://127.0.0.1:1"},
        command=(sys.executable, "-c", reaper),
    )
    try:
        agent.wait_for("orphan")
        pid = agent.said().split("orphan ")[1].split()[0]
        until(lambda: not os.path.exists(f"/proc/{pid}"), "the orphan to be reaped")
    finally:
        agent.stop()


def test_status_is_private_and_tells_the_links(stage: Stage) -> None:
    edge, app = stage.edge(workers=2), stage.app()
    agent = stage.agent(edge, app, FLY_RELEASE_ID="v9", DYNO="web.1")
    edge.wait_idle(2, 0)
    edge.wait_idle(2, 1)
    assert edge.take(0).ask(GET)[0] == 200
    assert stat.S_IMODE(os.stat(agent.runtime).st_mode) == 0o700
    [name] = os.listdir(agent.runtime)
    assert stat.S_IMODE(os.stat(os.path.join(agent.runtime, name)).st_mode) == 0o600
    until(lambda: agent.run("status").returncode == 0, "a status with links")
    text = agent.run("status").stdout
    assert f"agent {__version__}, pid {agent.process.pid}, web.1, release v9, up " in text
    assert f"app 127.0.0.1:{app.port}: ready; 0 in flight, 1 served" in text
    assert f"edge {edge.url} (127.0.0.1): node edge-1, 2 of 2 workers" in text
    assert "worker 1: " in text
    [said] = json.loads(agent.run("status", "--json").stdout)["agents"]
    [node] = said["nodes"]
    assert [worker["worker"] for worker in node["connected"]] == [0, 1]
    assert said["app"]["served"] == 1
    assert "fly_test_secret" not in json.dumps(said)
    agent.stop()


def test_status_without_an_agent(tmp_path: Path) -> None:
    stale = tmp_path / "1.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    ran = command("status", FLY_RUNTIME_DIR=str(tmp_path))
    assert (ran.returncode, ran.stdout) == (1, f"no agent runs here (looked in {tmp_path})\n")
    assert not stale.exists()
    assert json.loads(command("status", "--json", FLY_RUNTIME_DIR=str(tmp_path)).stdout) == {"agents": []}


def test_a_runtime_directory_that_others_may_write_to_is_not_used(stage: Stage, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    edge, app = stage.edge(), stage.app()
    agent = stage.agent(edge, app, FLY_RUNTIME_DIR=str(tmp_path))
    edge.wait_idle(2)
    agent.wait_for("no status socket: ")
    assert os.listdir(tmp_path) == []


def steps(text: str) -> dict[str, str]:
    """The verdict for each step of a diagnosis."""
    return {line.split()[1]: line.split()[0] for line in text.splitlines()}


def diagnosis(edge_url: str, port: int, token: str = "fly_test_secret") -> subprocess.CompletedProcess[str]:
    return command("diagnose", FLY_TOKEN=token, FLY_REMOTE_ENDPOINT=edge_url, FLY_PORT=str(port))


def test_diagnose_when_all_is_well(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    ran = diagnosis(edge.url, app.port)
    assert ran.returncode == 0
    assert steps(ran.stdout) == dict.fromkeys(("agent", "dns", "tcp", "tls", "clock", "token", "round", "app"), "ok")
    assert ran.stderr == ""
    [register] = [message for side in [edge.asks] for message in side]
    assert register[1]["flyby-role"] == "control"


def test_diagnose_finds_each_fault_and_says_what_to_do(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    ran = diagnosis(edge.url, app.port, token="fly_wrong_1234567")
    assert ran.returncode == 1
    assert steps(ran.stdout)["token"] == "FAIL"
    assert ran.stdout.count("flyby token create BACKEND") == 1
    assert "1234567" not in ran.stdout
    with socket.create_server(("127.0.0.1", 0)) as held:
        closed = held.getsockname()[1]
    ran = diagnosis(f"http://127.0.0.1:{closed}", closed)
    assert (steps(ran.stdout)["tcp"], steps(ran.stdout)["app"]) == ("FAIL", "FAIL")
    ran = diagnosis("https://does-not-exist.invalid", app.port)
    assert steps(ran.stdout)["dns"] == "FAIL"
    edge.answer = b"HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
    ran = diagnosis(edge.url, app.port)
    assert (steps(ran.stdout)["clock"], steps(ran.stdout)["token"]) == ("FAIL", "FAIL")
    assert command("diagnose").returncode == 78
    edge.answer = None
    edge.on_register = lambda side: None  # type: ignore[method-assign]
    app.script = lambda connection, request: connection.close()
    ran = diagnosis(edge.url, app.port)
    assert (steps(ran.stdout)["round"], steps(ran.stdout)["app"]) == ("FAIL", "FAIL")


def test_a_diagnosis_whose_reader_goes_away_is_quiet(stage: Stage) -> None:
    edge = stage.edge()
    ran = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m flyby_agent diagnose | head -1"],
        env={**ENVIRONMENT, "FLY_TOKEN": edge.token, "FLY_REMOTE_ENDPOINT": edge.url, "FLY_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (len(ran.stdout.splitlines()), ran.stderr) == (1, "")


def test_diagnose_in_a_one_off_dyno_does_not_look_for_an_app(stage: Stage) -> None:
    edge = stage.edge()
    ran = command(
        "diagnose", FLY_TOKEN=edge.token, FLY_REMOTE_ENDPOINT=edge.url, DYNO="run.8213", FLY_PROCESS_TYPES="none"
    )
    assert (ran.returncode, steps(ran.stdout)["app"]) == (0, "--"), ran.stdout


@pytest.mark.parametrize("environment", [{"FLY_DISABLED": "1"}, {"DYNO": "run.1"}, {"FLY_TOKEN": ""}, {"FLY_PIN": "x"}])
def test_an_app_without_an_agent_has_a_port_all_the_same(environment: dict[str, str]) -> None:
    given = {"FLY_TOKEN": "t", "FLY_REMOTE_ENDPOINT": "https://127.0.0.1:1", **environment}
    ran = command("--", "sh", "-c", "echo port $PORT", **given)
    assert (ran.returncode, ran.stdout) == (0, "port 5000\n")
    assert ran.stderr.startswith("fly: ")


def test_agent_and_edge_have_one_version() -> None:
    assert __version__ == flyby_version


def test_the_archive_is_reproducible_and_holds_only_the_agent(tmp_path: Path) -> None:
    made = zipapp()
    assert made == zipapp()
    assert made.startswith(b"#!/usr/bin/env python3\n")
    (tmp_path / "a.pyz").write_bytes(made)
    with zipfile.ZipFile(tmp_path / "a.pyz") as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert "flyby_agent/framing.py" in names
    assert not [name for name in names if name.endswith((".pyc", ".pyi")) or "archive" in name]


def pythons() -> list[str]:
    """This Python, and older ones that are installed beside it."""
    found = [sys.executable]
    for name in ("python3.9", "python3.10"):
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            found.append(path)
    return found


@pytest.mark.parametrize("python", pythons())
def test_the_archive_runs_by_itself_in_a_bare_python(stage: Stage, tmp_path: Path, python: str) -> None:
    file = tmp_path / "flyby-agent.pyz"
    file.write_bytes(zipapp())
    edge, app = stage.edge(), stage.app(answer(b"zipped"))
    agent = AgentProcess(
        environment={
            "FLY_TOKEN": edge.token,
            "FLY_REMOTE_ENDPOINT": edge.url,
            "FLY_PORT": str(app.port),
            "PYTHONPATH": "",
        },
        command=(python, "-I", "-S", "-W", "error", str(file)),
    )
    try:
        edge.wait_idle(2)
        assert edge.take().ask(GET)[2] == b"zipped"
        agent.send_signal(signal.SIGTERM)
        assert agent.wait() == 0
        assert "Warning" not in agent.said()
    finally:
        agent.stop()
    shown = subprocess.run([python, "-I", "-S", str(file), "--version"], capture_output=True, text=True, timeout=WAIT_S)
    assert shown.stdout == f"flyby-agent {__version__}\n"


def flyby(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flyby", *arguments],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


def test_flyby_agent_builds_the_archive(tmp_path: Path) -> None:
    file = tmp_path / "agent.pyz"
    ran = flyby("agent", "build", "-o", str(file))
    assert ran.returncode == 0
    assert file.read_bytes() == zipapp()
    assert os.access(file, os.X_OK)
    assert ran.stdout.startswith(f"{file}: {len(zipapp()):,} bytes, sha256 ")
    ran = flyby("agent", "build", "-o", str(tmp_path / "missing" / "agent.pyz"))
    assert ran.returncode == 73
    assert "cannot write" in ran.stderr


def test_flyby_agent_runs_it_in_process() -> None:
    ran = flyby("agent", "run", "--port", "x", FLY_TOKEN="t", FLY_REMOTE_ENDPOINT="https://edge")
    assert (ran.returncode, ran.stderr) == (78, "fly: error: FLY_PORT (--port): 'x' is not a port\n")
    ran = flyby("agent", "run", "--", "sh", "-c", "echo $0; exit 9", "a b", FLY_DISABLED="1")
    assert (ran.returncode, ran.stdout) == (9, "a b\n")
    ran = flyby("agent", "status", FLY_RUNTIME_DIR="/does/not/exist")
    assert ran.returncode == 1
    assert "usage: flyby agent" in flyby("agent", "run", "--help").stdout
