"""The buildpack as the edge would serve it, with an agent inside that only tells what it was given."""

from __future__ import annotations

import io
import zipapp
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from flyby.heroku import Buildpack
from tests.heroku.heroku import Slug, push, relocatable_python, unpack

EDGE = "https://edge.example.com"

# Stands in for the agent where the scripts are what is tested: it writes its environment and waits, or ends as told.
TELLING = """
import json, os, signal, sys, time
if sys.argv[1:] == ["--version"]:
    print("flyby-agent 9.9.9")
    sys.exit(0)
names = ("PORT", "FLY_PORT", "FLY_TOKEN", "FLY_REMOTE_ENDPOINT", "FLY_RELEASE_ID", "FLY_RELEASE_DESC")
with open(os.path.join(os.environ["HOME"], "agent.log"), "a") as log:
    log.write(json.dumps({name: os.environ.get(name) for name in names}) + "\\n")
code = os.environ.get("TELL_CODE")
if code is not None:
    sys.exit(int(code))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(60)
"""


def telling_agent() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__main__.py", TELLING)
    result = io.BytesIO()
    packed.seek(0)
    zipapp.create_archive(packed, result)
    return result.getvalue()


@dataclass(frozen=True)
class Distribution:
    """A Python that can be vendored."""

    url: str
    sha256: str


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    archive = tmp_path_factory.mktemp("python") / "python.tar.gz"
    checksum = relocatable_python(archive)
    return Distribution(archive.as_uri(), checksum)


@pytest.fixture(scope="session")
def telling_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(Buildpack(telling_agent()).stamped(EDGE), tmp_path_factory.mktemp("telling-pack"))


class Platform:
    """Makes slugs in a folder of its own."""

    def __init__(self, folder: Path, pack: Path, python: Distribution) -> None:
        self.folder = folder
        self.pack = pack
        self.python = python

    def slug(self, tree: dict[str, str], name: str = "app", *, pinned: bool = False) -> Slug:
        """An app as it was pushed; unless `pinned`, the Python to vendor is this process's own."""
        repository = self.folder / f"{name}.git"
        repository.mkdir()
        folder = unpack(push(tree, repository), self.folder / name)
        config = {} if pinned else {"FLY_PYTHON_URL": self.python.url, "FLY_PYTHON_SHA256": self.python.sha256}
        return Slug(self.pack, folder, self.folder / "cache", config)


@pytest.fixture
def platform(tmp_path: Path, telling_pack: Path, python: Distribution) -> Platform:
    return Platform(tmp_path, telling_pack, python)
