"""The memory under the store: what is refused, and how a file is treated."""

from __future__ import annotations

import fcntl
import os
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
    mapping = segment.open_segment(2 * MIB, None)
    seals, blocks = seen[0]
    assert seals == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    assert blocks * 512 >= 2 * MIB
    mapping.close()


def test_a_file_is_private_whole_and_of_one_store(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    store = Store.create(MIB, path=str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == MIB
    with pytest.raises(StoreError, match="in use by another"):
        Store.create(MIB, path=str(path))
    store.close()
    del store
    again = Store.create(2 * MIB, path=str(path))
    assert again.statistics().objects == 0
    again.close()


def test_links_directories_and_open_files_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(target)
    open_to_all = tmp_path / "open"
    open_to_all.write_bytes(b"precious")
    open_to_all.chmod(0o644)
    os.mkfifo(tmp_path / "fifo", 0o600)
    refused = {"link": "a link is not followed", "open": "mode 0600", "fifo": "regular", "no/dir": "cannot open"}
    for name, why in refused.items():
        with pytest.raises(StoreError, match=why):
            Store.create(MIB, path=str(tmp_path / name))
    assert target.read_bytes() == open_to_all.read_bytes() == b"precious"


def test_a_file_system_without_room_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flyby.store.segment.os.posix_fallocate", full)
    with pytest.raises(StoreError, match=r"cannot allocate 1 MiB in .*cache: No space left on device"):
        Store.create(MIB, path=str(tmp_path / "cache"))


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
