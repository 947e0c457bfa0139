"""What a running agent says of itself, over a unix socket, and the command that asks.

    DIR/PID.sock    DIR is FLY_RUNTIME_DIR, XDG_RUNTIME_DIR/flyby-agent, or /tmp/flyby-agent-UID: 0700 and ours; the
                    socket is 0600. Who connects gets one JSON object, and the end.

Nothing is read from a client. A directory that somebody else owns or may write to is not used: the agent then runs
without a socket, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from typing import Any, Callable

from flyby_agent import log

ASK_S = 3.0
MOST_BYTES = 4 * 1024 * 1024


def directory() -> str:
    """Where the sockets of this user's agents are."""
    named = os.environ.get("FLY_RUNTIME_DIR", "")
    if named:
        return named
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        return os.path.join(runtime, "flyby-agent")
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", f"flyby-agent-{os.getuid()}")


def private(path: str) -> str:
    """What is wrong with a directory; empty when it is ours alone. Made if it is missing."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        return f"{path}: {error.strerror}"
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return f"{path} is not a directory of this user"
    if found.st_mode & 0o022:
        return f"{path} can be written to by others"
    return ""


class StatusSocket:
    """The agent's end."""

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot
        self._server: asyncio.AbstractServer | None = None
        self._path = ""

    async def open(self) -> None:
        place = directory()
        wrong = private(place)
        if wrong:
            log.warning(f"no status socket: {wrong}")
            return
        path = os.path.join(place, f"{os.getpid()}.sock")
        old = os.umask(0o177)
        try:
            if os.path.exists(path):
                os.unlink(path)  # of an earlier process of this id
            self._server = await asyncio.start_unix_server(self._answer, path)
            self._path = path
        except OSError as error:
            log.warning(f"no status socket: {path}: {error.strerror or error}")
        finally:
            os.umask(old)

    def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(self._snapshot()).encode() + b"\n")
        writer.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._path and os.path.exists(self._path):
            os.unlink(self._path)


def ask(path: str) -> dict[str, Any]:
    """What one agent says; OSError or ValueError when it does not."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASK_S)
        connection.connect(path)
        said = bytearray()
        while len(said) <= MOST_BYTES:
            data = connection.recv(65536)
            if not data:
                break
            said += data
    found = json.loads(said)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def running() -> list[dict[str, Any]]:
    """What every agent of this user says. Sockets that nobody listens on are removed."""
    place = directory()
    found = []
    try:
        names = sorted(name for name in os.listdir(place) if name.endswith(".sock"))
    except OSError:
        return []
    for name in names:
        path = os.path.join(place, name)
        try:
            found.append(ask(path))
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)
        except (OSError, ValueError):
            continue
    return found


def lines(said: dict[str, Any]) -> list[str]:
    """For people."""
    app = said["app"]
    state = "draining" if said["draining"] else "ready" if app["ready"] else f"not ready ({app['error']})"
    release = f", release {said['release']['id']}" if said["release"]["id"] else ""
    text = [
        f"agent {said['agent']}, pid {said['pid']}, {said['dyno']}{release}, up {said['uptime_s']:.0f} s",
        f"app {app['address']}: {state}; {app['in_flight']} in flight, {app['served']} served, {app['latency_ms']} ms",
    ]
    for node in said["nodes"]:
        error = f": {node['error']}" if node["error"] else ""
        workers = f"{len(node['connected'])} of {node['workers']} workers" if node["workers"] else "not connected"
        name = f" node {node['node']}," if node["node"] else ""
        text.append(f"edge {node['endpoint']} ({node['address']}):{name} {workers}{error}")
        for worker in node["connected"]:
            rtt = "" if worker["rtt_ms"] is None else f", round trip {worker['rtt_ms']} ms"
            going = ", going down" if worker["draining"] else ""
            text.append(
                f"  worker {worker['worker']}: {worker['links']} links, {worker['idle']} idle, {worker['busy']} busy, "
                f"spare {worker['spare']}{rtt}{going}"
            )
    text += [f"edge {why}" for why in said["unresolved"].values()]
    return text


def command(as_json: bool) -> int:
    """0 when an agent runs and has a link, 1 otherwise."""
    said = running()
    if as_json:
        print(json.dumps({"agents": said}, indent=2))
    elif not said:
        print(f"no agent runs here (looked in {directory()})")
    for each in said if not as_json else ():
        print("\n".join(log.flat(line, 500) if not line.startswith(" ") else line for line in lines(each)))
    linked = [worker for each in said for node in each["nodes"] for worker in node["connected"] if worker["links"]]
    return 0 if linked else 1
