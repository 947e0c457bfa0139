"""Heroku as a buildpack and a dyno see it: a pushed tree, a build with its three folders, a slug, and a boot by bash.

The contract played here is the platform's (dev centre: buildpack-api, profiled, dyno-startup-behavior): the build gets
BUILD, CACHE and a folder with a file a config var, and little environment; a dyno unpacks the slug at HOME, has the
config vars, DYNO and (a `web` one) PORT in its environment, sources .profile.d/*.sh in bash, and becomes the command.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

BUILD_S = 60.0

# What the scripts may call, so that a dyno "without Python" can be made: everything here and nothing else on PATH.
PROGRAMS = (
    "bash", "cat", "chmod", "curl", "cut", "dirname", "du", "env", "grep", "gzip", "head", "install", "ls", "mkdir",
    "mktemp", "mv", "rm", "sed", "setsid", "sh", "sha256sum", "sleep", "tar", "tr", "uname", "wc",
)  # fmt: skip


def without_python(folder: Path, *more: str) -> str:
    """A PATH on which there is no Python: a folder of links to `PROGRAMS`, and to `more`."""
    folder.mkdir()
    for name in (*PROGRAMS, *more):
        found = shutil.which(name)
        assert found is not None, f"{name} is not on this machine"
        (folder / name).symlink_to(found)
    return str(folder)


def relocatable_python(archive: Path) -> str:
    """Packs the Python of this process as python-build-standalone packs its own; returns the file's SHA-256.

    An interpreter finds its library beside itself, wherever both lie, so this one can stand in for the pinned one.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(sys.base_prefix)
    left_out = {"test", "tests", "__pycache__", "site-packages", "dist-packages", "idlelib", "tkinter", "ensurepip"}

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = Path(member.name).name
        return None if name in left_out or name.startswith(("config-", "libpython")) else member

    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        program = Path(sys.executable).resolve()
        tar.add(program, f"python/bin/{version}")
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, version
        tar.addfile(link)
        tar.add(base / "lib" / version, f"python/lib/{version}", filter=wanted)
        for shared in (base / "lib").glob("libpython3*.so*"):
            tar.add(shared, f"python/lib/{shared.name}")
    return sha256(archive.read_bytes()).hexdigest()


def unpack(archive: bytes, folder: Path) -> Path:
    """With tar, as the platform does; a commit of nothing is an archive of nothing."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xz" if archive.startswith(b"\x1f\x8b") else "-x"], input=archive, cwd=folder, check=True)
    return folder


def push(tree: Mapping[str, str], repository: Path) -> bytes:
    """Commits `tree` and returns what a git push delivers of it: a tar of the commit."""
    for name, text in tree.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)
    git = ["git", "-c", "user.name=app", "-c", "user.email=app@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q", "."], cwd=repository, check=True)
    subprocess.run([*git, "add", "-A", "."], cwd=repository, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Deploy"], cwd=repository, check=True)
    return subprocess.run(["git", "archive", "HEAD"], cwd=repository, check=True, capture_output=True).stdout


@dataclass
class Slug:
    """An app on its way through a build; `folder` is BUILD, and later the dyno's HOME."""

    pack: Path
    folder: Path
    cache: Path
    config: dict[str, str] = field(default_factory=dict)
    path: str = os.environ["PATH"]

    def compile(self, script: str = "compile", **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs bin/compile as the build system does."""
        settings = self.cache.parent / f"{self.folder.name}.env"
        shutil.rmtree(settings, ignore_errors=True)
        settings.mkdir()
        for name, value in self.config.items():
            (settings / name).write_text(value)
        self.cache.mkdir(exist_ok=True)
        return subprocess.run(
            [self.pack / "bin" / script, self.folder, self.cache, settings],
            env={"PATH": self.path, "STACK": "heroku-24", "HOME": str(self.cache.parent), **environment},
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )

    def environment(self, dyno: str, port: int | None) -> dict[str, str]:
        """What the platform sets in a dyno. Only a `web` dyno is told a port."""
        found = {"PATH": self.path, "HOME": str(self.folder), "DYNO": dyno, **self.config}
        found.setdefault("TMPDIR", str(self.scratch(dyno)))
        if dyno.startswith("web") and port is not None:
            found["PORT"] = str(port)
        return found

    def scratch(self, dyno: str) -> Path:
        folder = self.cache.parent / f"tmp-{self.folder.name}-{dyno}"
        folder.mkdir(exist_ok=True)
        return folder

    def boot(self, command: str, dyno: str = "web.1", port: int | None = None) -> Dyno:
        """Starts a dyno: bash sources .profile.d/*.sh and becomes `command`."""
        script = 'for file in .profile.d/*.sh; do [ ! -f "$file" ] || . "$file"; done; exec ' + command
        log = self.cache.parent / f"{self.folder.name}-{dyno}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.folder,
                env=self.environment(dyno, port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Dyno(process, log, published=dyno.startswith("web"))


@dataclass
class Dyno:
    """A booted dyno: every process of one session, as the platform signals them."""

    process: subprocess.Popen[bytes]
    log: Path
    published: bool = False  # whether the platform's router sends it requests: `web` dynos alone

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def members(self) -> Iterator[int]:
        """The processes of this dyno that are alive."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(fields[3]) == self.process.pid and fields[0] != "Z":
                    yield int(entry.name)

    def send(self, number: int) -> None:
        """To every process at once, as Heroku sends TERM."""
        for pid in list(self.members()):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def stop(self, number: int = signal.SIGTERM, patience_s: float = 25.0) -> None:
        """TERM, the patience that the platform has, KILL."""
        self.send(number)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self.send(signal.SIGKILL)
        self.process.wait(5)
