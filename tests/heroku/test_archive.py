"""The archive: what is in it, that it says nothing of the machine that made it, and which URLs an edge may have."""

from __future__ import annotations

import io
import tarfile
import tomllib

import pytest

from flyby import __version__
from flyby.heroku import Buildpack, EdgeURLError, checked_edge_url


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member for member in tar}


def content(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = tar.extractfile(name)
        assert found is not None
        return found.read()


def test_what_the_platform_runs_lies_at_the_top_and_may_be_run() -> None:
    found = members(Buildpack(b"agent").stamped("https://edge.example.com"))
    for name in ("bin/detect", "bin/compile", "bin/release", "bin/test-compile", "bin/build"):
        assert found[name].mode == 0o755
    for name in ("boot/flyby-run", "boot/flyby-agent", "boot/exec.d"):
        assert found[name].mode == 0o755
    assert found["lib/install.sh"].mode == 0o644


def test_the_same_input_gives_the_same_bytes() -> None:
    one = Buildpack(b"agent").stamped("https://edge.example.com")
    assert one == Buildpack(b"agent").stamped("https://edge.example.com")
    assert one != Buildpack(b"agent").stamped("https://other.example.com")
    assert all(
        (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "") for member in members(one).values()
    )


def test_the_agent_and_the_edge_are_inside() -> None:
    archive = Buildpack(b"the agent").stamped("https://edge.example.com:8443/")
    assert content(archive, "agent/flyby-agent.pyz") == b"the agent"
    assert content(archive, "edge") == b"https://edge.example.com:8443\n"


def test_the_descriptor_has_the_version_of_flyby() -> None:
    descriptor = tomllib.loads(content(Buildpack(b"").stamped("https://edge.example.com"), "buildpack.toml").decode())
    assert descriptor["buildpack"]["version"] == __version__


def test_every_pinned_python_is_a_checksum_and_an_encrypted_url() -> None:
    lines = content(Buildpack(b"").stamped("https://edge.example.com"), "python.txt").decode().splitlines()
    pinned = [line.split() for line in lines if not line.startswith("#")]
    assert {fields[0] for fields in pinned} == {"x86_64", "aarch64"}
    for _, version, checksum, url in pinned:
        assert len(checksum) == 64
        assert set(checksum) <= set("0123456789abcdef")
        assert url.startswith("https://")
        assert f"cpython-{version}" in url


@pytest.mark.parametrize(
    ("url", "spelled"),
    [
        ("https://edge.example.com", "https://edge.example.com"),
        ("https://edge.example.com/", "https://edge.example.com"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_edge_has_one_spelling(url: str, spelled: str) -> None:
    assert checked_edge_url(url) == spelled


@pytest.mark.parametrize(
    "url",
    [
        "edge.example.com",
        "ftp://edge.example.com",
        "https://edge.example.com/path",
        "https://edge.example.com:0",
        "https://edge.example.com:70000",
        "https://user@edge.example.com",
        "https://edge.example.com\n",
        "http://edge.example.com",
        "http://127.0.0.1.example.com",
        "",
    ],
)
def test_what_is_no_safe_edge_is_refused(url: str) -> None:
    with pytest.raises(EdgeURLError, match="edge"):
        checked_edge_url(url)
