"""A cache with a path outlives its process: what is kept, what is dropped, and that a doubt is enough to drop it."""

from __future__ import annotations

import logging
import os
import random
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from flyby.errors import StoreError
from flyby.store import Store, cache_file
from flyby.store._pack import packed
from tests.store.processes import Worker
from tests.store.test_processes import BLOB, content

MIB = 1 << 20
COUNT = 300


def body_of(number: int) -> bytes:
    return content(b"%d" % number, number % 3, 200 + number * 7)


def put(store: Store, number: int) -> bool:
    return store.put(b"key %d" % number, BLOB, body_of(number), 200, 7, 1000, 2000, 30, 40)


def opened(
    path: Path, size: int = 4 * MIB, workers: int = 2, meaning: bytes = b"", largest: int | None = None
) -> Store:
    return Store.create(size, path=str(path), workers=workers, meaning=meaning, max_object=largest)


def found(store: Store) -> int:
    """How many of the objects are there, each as it was stored."""
    count = 0
    for number in range(COUNT):
        entry = store.lookup(b"key %d" % number)
        if entry is not None:
            assert (bytes(entry.body()), entry.head) == (body_of(number), BLOB)
            assert (entry.status, entry.flags, entry.born_ms, entry.fresh_ms) == (200, 7, 1000, 2000)
            assert (entry.swr_s, entry.sie_s) == (30, 40)
            count += 1
    return count


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed cache with COUNT objects."""
    path = tmp_path / "cache"
    store = opened(path)
    assert all(put(store, number) for number in range(COUNT))
    store.close()
    return path


def test_what_was_closed_is_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flyby")
    store = opened(path)
    assert caplog.messages == [f"the cache in {path} is kept, with {COUNT} objects"]
    assert store.check() == []
    assert found(store) == COUNT
    assert put(store, COUNT + 1)
    store.close()


def test_generations_epochs_and_counts_go_on(path: Path) -> None:
    store = opened(path)
    entry = store.lookup(b"key 1")
    assert entry is not None
    before, hits = entry.generation, store.statistics().hits
    assert hits == 1
    del entry
    store.close()
    del store
    store = opened(path)
    assert put(store, 1)
    entry = store.lookup(b"key 1")
    assert entry is not None
    assert entry.generation > before + 1
    assert store.statistics().hits == hits + 1
    assert store.statistics().inserts == COUNT + 1
    del entry
    store.close()


def test_pins_fetches_and_half_written_objects_end_with_their_processes(tmp_path: Path) -> None:
    path = tmp_path / "cache"

    def live(store: Store, me: Worker) -> None:
        held = [store.lookup(b"key %d" % number) for number in range(20)]
        fill = store.claim(b"new")
        assert fill is not None
        fill.open(b"new", BLOB, 200, 0, 1, 2, 3, 4, -1)
        fill.write(b"half")
        done = store.claim(b"done")
        assert done is not None
        done.open(b"done", BLOB, 200, 0, 1, 2, 3, 4, 4)
        done.write(b"full")
        done.commit()
        store.delete(b"key 3")
        me.say()
        signal.pause()
        del held

    def serve() -> None:
        store = opened(path)
        for number in range(COUNT):
            put(store, number)
        worker = Worker(store, 0, live)
        assert worker.heard()
        os.kill(worker.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed(serve) == -signal.SIGKILL
    store = opened(path)
    assert store.check() == []
    assert found(store) == COUNT - 1
    assert store.lookup(b"new") is None
    entry = store.lookup(b"done")
    assert entry is not None
    assert bytes(entry.body()) == b"full"
    del entry
    statistics = store.statistics()
    assert (statistics.loose, statistics.fills_open, statistics.objects) == (0, 0, COUNT)
    assert store.clear() == COUNT
    assert store.statistics().used == 0
    heir = store.claim(b"new")
    assert heir is not None
    assert heir.owner
    heir.release()
    store.close()


def killed(story: Callable[[], None]) -> int:
    """Play the story in a process that does not come back; how it ended."""
    pid = os.fork()
    if not pid:
        try:
            story()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def leave_open(path: Path) -> None:
    def story() -> None:
        opened(path)
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed(story) == -signal.SIGKILL


def test_what_was_killed_is_kept_while_the_machine_runs_on(path: Path) -> None:
    leave_open(path)
    store = opened(path)
    assert found(store) == COUNT
    store.close()


def test_what_was_killed_with_the_machine_is_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave_open(path)
    monkeypatch.setattr(cache_file, "boot_id", lambda: "another boot")
    store = opened(path)
    assert caplog.messages == [f"the cache in {path} is dropped: the machine stopped without closing it"]
    assert found(store) == 0
    store.close()


def test_a_start_that_is_cut_off_counts_as_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first change on: pages of a start that the machine does not survive may have reached the disk or not."""

    def story() -> None:
        monkeypatch.setattr(os, "eventfd", lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
        opened(path)

    assert killed(story) == -signal.SIGKILL
    record = cache_file.read_record(path.read_bytes()[:4096])
    assert record is not None
    assert record.state == cache_file.OPEN
    store = opened(path)
    assert found(store) == COUNT
    store.close()


def test_what_was_closed_outlives_the_machine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "boot_id", lambda: "another boot")
    store = opened(path)
    assert found(store) == COUNT
    store.close()


def test_a_child_that_closes_does_not_close_for_its_parent(path: Path) -> None:
    store = opened(path)
    pid = os.fork()
    if not pid:
        store.close()
        os._exit(0)
    os.waitpid(pid, 0)
    record = cache_file.read_record(path.read_bytes()[:4096])
    assert record is not None
    assert (record.state, record.process) == (cache_file.OPEN, os.getpid())
    store.close()
    record = cache_file.read_record(path.read_bytes()[:4096])
    assert record is not None
    assert record.state == cache_file.CLOSED
    assert record.closed_ms >= record.opened_ms


def test_load_that_is_killed_whole_is_recovered(tmp_path: Path) -> None:
    """The family dies at a random moment of its work; what comes back is right, sound, and not much less."""
    path = tmp_path / "cache"
    generator = random.Random(3)
    kept = 0
    for turn in range(15):

        def story(turn: int = turn) -> None:
            store = opened(path)
            for number in range(COUNT):
                put(store, number)

            def work(store: Store, me: Worker) -> None:
                me.say()
                while True:
                    number = generator.randrange(COUNT)
                    put(store, number)
                    entry = store.lookup(b"key %d" % (number ^ 1))
                    if entry is not None:
                        store.refresh(entry, entry.head, 7, 1000, 2000, 30, 40)
                    fill = store.claim(b"key %d" % (number ^ 2))
                    if fill is not None and fill.owner:
                        body = body_of(number ^ 2)
                        fill.open(b"key %d" % (number ^ 2), BLOB, 200, 7, 1000, 2000, 30, 40, len(body))
                        if fill.write(body):
                            fill.commit()
                        fill.release()

            workers = [Worker(store, number, work) for number in range(2)]
            assert all(worker.heard() for worker in workers)
            signal.sigtimedwait([], generator.uniform(0.005, 0.03) + turn / 1000)
            for worker in workers:
                os.kill(worker.pid, signal.SIGKILL)
            for worker in workers:
                os.waitpid(worker.pid, 0)
            os.kill(os.getpid(), signal.SIGKILL)

        assert killed(story) == -signal.SIGKILL
        store = opened(path)
        assert store.check() == []
        kept += found(store) > 0
        store.clear()
        assert store.statistics().used == 0
        store.close()
        del store
    assert kept


# ---- what is dropped -------------------------------------------------------------------------------------------------


def patch(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        pytest.param(lambda path: None, {"size": 8 * MIB}, "the cache is to have 8388608", id="size"),
        pytest.param(lambda path: None, {"workers": 3}, "another number of workers", id="workers"),
        pytest.param(lambda path: None, {"largest": 1000}, "another cache.max_object", id="max_object"),
        pytest.param(lambda path: None, {"meaning": b"other"}, "stored under other rules", id="meaning"),
        pytest.param(lambda path: os.truncate(path, 2 * MIB), {}, "it has 2097152 bytes", id="truncated"),
        pytest.param(lambda path: os.truncate(path, 2100), {}, "never finished|no record", id="a stump"),
        pytest.param(lambda path: os.truncate(path, 9 * MIB), {}, "it has 9437184 bytes", id="grown"),
        pytest.param(lambda path: patch(path, 40, b"\xff"), {}, "header is damaged", id="hash key"),
        pytest.param(lambda path: patch(path, 70, b"\xff"), {}, "header is damaged", id="geometry"),
        pytest.param(lambda path: patch(path, 2056, b"\x09"), {}, "record is damaged", id="state"),
        pytest.param(lambda path: patch(path, 0, bytes(4096)), {}, "never finished", id="no first page"),
    ],
)
def test_a_doubt_drops_the_whole(
    path: Path, change: Callable[[Path], None], options: dict[str, int], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(path)
    if why.startswith("never finished|"):  # too short to tell what it is: somebody else's, for all we know
        with pytest.raises(StoreError, match="no cache file of flyby"):
            opened(path)
        return
    old = path.stat().st_ino
    store = opened(path, **options)  # type: ignore[arg-type]
    assert len(caplog.messages) == 1
    assert f"the cache in {path} is dropped: " in caplog.text
    assert why in caplog.text
    assert found(store) == 0
    assert store.check() == []
    assert path.stat().st_ino != old  # never shortened under who reads it
    store.close()


def test_another_versions_layout_is_dropped(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next version's file, sound in itself, with a header that says so."""
    before = path.read_bytes()[:4096]
    patch(path, 8, struct.pack("=I", 99))
    record = list(cache_file.RECORD.unpack_from(before, cache_file.RECORD_AT))
    record[5] = digest_of_header(before, path.read_bytes()[:4096], record[5])
    patch(path, cache_file.RECORD_AT, cache_file.RECORD.pack(*record))
    store = opened(path)
    assert "another version of flyby made it" in caplog.text
    assert found(store) == 0
    store.close()


def digest_of_header(before: bytes, page: bytes, old: bytes) -> bytes:
    """The digest of the changed header, over as many bytes as the old digest covers."""
    length = next(length for length in range(2048) if cache_file.digest_of(before[:length]) == old)
    return cache_file.digest_of(page[:length])


def test_no_damage_is_served_or_kills(tmp_path: Path) -> None:
    """Noise at random places: the store is sound without it, or is dropped; no process dies of it."""
    generator = random.Random(11)
    path = tmp_path / "cache"
    dropped = 0
    for turn in range(60):
        store = opened(path, size=MIB)
        for number in range(100):
            put(store, number)
        store.close()
        del store
        for _ in range(3):
            at = damaged_at(path.read_bytes(), generator)
            patch(path, at, generator.randbytes(generator.choice([1, 4, 8, 16])))

        def story() -> None:
            store = opened(path, size=MIB)
            assert store.check() == []
            if store.statistics().objects == 0:
                os._exit(2)
            for number in range(200):
                store.lookup(b"key %d" % number)
                put(store, number + 1000)
            store.clear()
            assert store.check() == []
            os._exit(0)

        code = killed(story)
        assert code in (0, 2), f"turn {turn} ended with {code}"
        dropped += code == 2
    assert 10 < dropped < 60


def test_lists_of_tags_that_lead_nowhere_are_no_way_out_of_the_shard(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [lists] = struct.unpack_from("=Q", path.read_bytes(), 128)  # Header.at_tags
    patch(path, lists, b"\xff" * 64)

    def story() -> None:
        store = opened(path)
        os._exit(0 if "list 0 of its tags is broken" in caplog.text and found(store) == 0 else 1)

    assert killed(story) == 0


def test_a_body_that_does_not_unpack_is_an_error_of_the_store(path: Path) -> None:
    text = b"to and fro, " * 200
    store = opened(path)
    assert store.put(b"text", BLOB, text, 200, 7, 1000, 2000, 30, 40)
    store.close()
    del store
    compressed = packed(text)
    assert compressed is not None
    patch(path, path.read_bytes().index(compressed) + 4, b"\xff" * (len(compressed) - 4))
    store = opened(path)
    entry = store.lookup(b"text")
    assert entry is not None
    with pytest.raises(StoreError, match="does not decompress"):
        entry.body()
    entry.release()
    store.close()


def damaged_at(data: bytes, generator: random.Random) -> int:
    """In what describes a block, before its key, or wherever something else than zeros stands."""
    if generator.random() < 0.7:
        return data.index(b"key %d" % generator.randrange(10, 100)) - generator.randrange(1, 96)
    while not data[at := generator.randrange(4096, MIB - 16)]:
        continue
    return at
