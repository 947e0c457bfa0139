"""The memory under the store: what is refused, what is allocated, and whose file is touched."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from flyby.errors import StoreError
from flyby.store import Store, segment

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 4096, MIB - 1])
def test_a_store_has_a_least_size(size: int) -> None:
    with pytest.raises(StoreError, match=r"too small.*1 MiB"):
        Store.create(size)
    Store.create(MIB).close()


def test_what_memory_cannot_hold_is_refused_at_the_start() -> None:
    with pytest.raises(StoreError, match=r"MiB are left; make cache.size smaller"):
        Store.create(1 << 50)


def test_a_memfd_is_sealed_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = os.close

    def close(fd: int) -> None:
        seen.append((fcntl.fcntl(fd, fcntl.F_GET_SEALS), os.fstat(fd).st_blocks))
        real(fd)

    monkeypatch.setattr("flyby.store.segment.os.close", close)
    mapping = segment.anonymous(2 * MIB)
    seals, blocks = seen[0]
    assert seals == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    assert blocks * 512 >= 2 * MIB
    mapping.close()


def test_a_file_is_private_whole_and_of_one_store(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    store = Store.create(MIB, path=str(path))
    found = path.stat()
    assert (found.st_mode & 0o777, found.st_size, found.st_blocks * 512 >= MIB) == (0o600, MIB, True)
    with pytest.raises(StoreError, match=rf"in use by another flyby \(process {os.getpid()}\)") as caught:
        Store.create(MIB, path=str(path))
    assert caught.value.exit_code == os.EX_TEMPFAIL
    assert store.put(b"key", b"", b"body", 200, 0, 0, 0, 0, 0)
    assert store.check() == []
    store.close()


def test_a_file_is_locked_while_anything_maps_it(tmp_path: Path) -> None:
    path = str(tmp_path / "cache")
    store = Store.create(MIB, path=path)
    store.put(b"key", b"", b"body", 200, 0, 0, 0, 0, 0)
    entry = store.lookup(b"key")
    assert entry is not None
    view = entry.body()
    store.close()
    del store, entry
    with pytest.raises(StoreError, match="in use"):
        Store.create(MIB, path=path)
    assert bytes(view) == b"body"
    del view
    Store.create(MIB, path=path).close()


def test_what_is_not_ours_alone_is_refused_and_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for name, mode in (("target", 0o600), ("open", 0o644), ("group", 0o620), ("foreign", 0o600), ("twice", 0o600)):
        (tmp_path / name).write_bytes(b"precious")
        (tmp_path / name).chmod(mode)
    (tmp_path / "link").symlink_to(target)
    os.link(tmp_path / "twice", tmp_path / "its other name")
    os.mkfifo(tmp_path / "fifo", 0o600)
    refused = {
        "link": "a link is not followed",
        "open": "mode 0600",
        "group": "mode 0600",
        "twice": "one name",
        "fifo": "regular",
        "no/dir": "cannot open",
        "foreign": "no cache file of flyby: remove it",
    }
    for name, why in refused.items():
        with pytest.raises(StoreError, match=why) as caught:
            Store.create(MIB, path=str(tmp_path / name))
        assert caught.value.exit_code == os.EX_CONFIG
        assert "\n" not in str(caught.value)
    assert {path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {b"precious"}


def test_another_users_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache"
    Store.create(MIB, path=str(path)).close()
    own = os.geteuid()
    monkeypatch.setattr("flyby.store.cache_file.os.geteuid", lambda: own + 1)
    with pytest.raises(StoreError, match="belong to this user"):
        Store.create(MIB, path=str(path))


def test_a_file_system_without_room_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, start: int, length: int) -> None:
        os.ftruncate(fd, length // 2)
        raise OSError(28, "No space left on device")

    path = tmp_path / "cache"
    with monkeypatch.context() as patched:
        patched.setattr("flyby.store.segment.os.posix_fallocate", full)
        with pytest.raises(StoreError, match=r"cannot allocate 1 MiB in .*cache: No space left on device"):
            Store.create(MIB, path=str(path))
    assert path.stat().st_size == 0
    Store.create(MIB, path=str(path)).close()


def test_a_file_in_memory_is_measured_against_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cgroup kills who allocates beyond its limit, so the limit is looked at before."""
    monkeypatch.setattr("flyby.store.segment.memory_left", lambda: 3 * MIB)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = f"{directory}/cache"
        with pytest.raises(StoreError, match="wants 4 MiB of memory, but only 3 MiB are left"):
            Store.create(4 * MIB, path=path)
        Store.create(2 * MIB, path=path).close()
        Store.create(2 * MIB, path=path).close()  # what it has it need not take again
    with pytest.raises(StoreError, match="wants 4 MiB of memory"):
        Store.create(4 * MIB)


def test_file_cache_is_no_used_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.limit_in_bytes").write_text(f"{10 * MIB}\n")
    (tmp_path / "memory.usage_in_bytes").write_text(f"{9 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"cache 1\ntotal_inactive_file {4 * MIB}\n")
    monkeypatch.setattr("flyby.store.segment._V1", tmp_path)
    monkeypatch.setattr("flyby.store.segment._V2", tmp_path / "none")
    assert segment.memory_left() == 5 * MIB


@pytest.mark.parametrize("workers", [0, 64])
def test_the_number_of_workers_has_bounds(workers: int) -> None:
    with pytest.raises(StoreError, match="workers"):
        Store.create(MIB, workers=workers)


@pytest.mark.parametrize("size", [MIB, 3 * MIB + 12345, 64 * MIB, 200 * MIB])
@pytest.mark.parametrize("largest", [None, 1000, 1 << 40])
def test_every_geometry_is_sound(size: int, largest: int | None) -> None:
    store = Store.create(size, max_object=largest, workers=3)
    assert store.check() == []
    assert store.statistics().capacity > size * 0.8
    body = os.urandom(store.max_object)
    assert store.put(b"key", b"", body, 200, 0, 0, 0, 0, 0)
    entry = store.lookup(b"key")
    assert entry is not None
    assert bytes(entry.body()) == body
    assert largest == 1 << 40 or store.max_object == (size // 4096 * 4096 // 8 if largest is None else largest)
    assert store.check() == []
    del entry
    store.close()
