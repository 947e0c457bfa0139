"""A death between any two steps of everything that changes the store; needs a build with CFLAGS=-DFLYBY_FAULTS.

Each scenario runs in a worker that is killed at its first fault point, then in a new store at its second, and so on
until it comes to its end alive. After each death: the lock is taken over, the audit finds nothing, what is found is
right, nothing is missing but what was being changed or had been evicted, followers are free, and not a byte is lost.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from flyby.store import COMPLETE, FAILED, Fill, Store
from flyby.store._fault import kill_at
from tests.store.processes import Worker, pack, until
from tests.store.test_processes import BLOB, content

MIB = 1 << 20


def has_faults() -> bool:
    store = Store.create(MIB)
    found = kill_at(store, 0)
    store.close()
    return found


pytestmark = pytest.mark.skipif(not has_faults(), reason="this build has no fault points")

FAR_MS = 1 << 45
PLACE = (1, 3)  # of a key: its group is its first letter, its branch its first three
LENGTHS = {b"small": 100, b"packed": 9000, b"large": 100_000, b"new": 20_000}


def body_of(key: bytes, version: int = 1) -> bytes:
    length = next((length for stem, length in LENGTHS.items() if key.startswith(stem)), 3_000)
    return content(key, version, length)


def put(store: Store, key: bytes, version: int = 1, fresh_ms: int = FAR_MS) -> bool:
    head, tags = BLOB + b"V: %d\r\n" % version, (b"all", key, key)
    return store.put(key, head, body_of(key, version), 200, 0, 1, fresh_ms, 3, 4, tags=tags, place=PLACE)


def check_key(store: Store, key: bytes) -> bool:
    entry = store.lookup(key)
    if entry is None:
        return False
    version = int(entry.head.split(b"V: ")[1])
    assert bytes(entry.body()) == body_of(key, version)
    return True


def fill(store: Store) -> None:
    """So much that whatever comes next must evict."""
    for number in range(400):
        put(store, b"other %d" % number)


Ready = Callable[[], object]  # to be called when the follower may come
Scenario = Callable[[Store, Ready], object]


def replace(store: Store, ready: Ready) -> None:
    ready()
    put(store, b"small", 3)
    put(store, b"packed", 2)


def evict(store: Store, ready: Ready) -> None:
    ready()
    put(store, b"large 2")


def some_expire(store: Store) -> None:
    for number in range(0, 400, 3):
        store.expire(b"other %d" % number, 1)


def reclaim(store: Store, ready: Ready) -> None:
    ready()
    put(store, b"new")


def some_cool(store: Store) -> None:
    """Six objects are hot and held plain; then others come and go until the first of them is hot no more."""
    for key in (b"packed %d" % number for number in range(6)):
        put(store, key, 2)
        pack(store, *[key] * 6)
    for number in range(3000):
        if store.statistics().demotions:
            break
        key = b"passing %d" % number
        put(store, key)
        for _ in range(2):
            check_key(store, key)
    assert store.statistics().demotions >= 1  # those of a shard may go together


def demote(store: Store, ready: Ready) -> None:
    ready()
    for number in range(16):
        put(store, b"last %d" % number)
    pack(store, *[b"packed %d" % number for number in range(6)])


def pack_large(store: Store, ready: Ready) -> None:
    ready()
    pack(store, b"pages", b"noise")
    for _ in range(3):
        pack(store, b"pages")
    assert bytes(store.lookup(b"pages").read(0, 10)) == PAGES[:10]  # type: ignore[union-attr]


def follow_through(store: Store, ready: Ready, length: int, version: int = 1) -> None:
    owner = store.claim(b"new")
    ready()
    assert owner is not None
    body = body_of(b"new", version)
    head = BLOB + b"V: %d\r\n" % version
    owner.open(b"new", head, 200, 0, 1, FAR_MS, 3, 4, length, tags=(b"all", b"new"), place=PLACE)
    for start in range(0, len(body), 4_000):
        owner.write(body[start : start + 4_000])
    owner.commit()
    owner.release()


def give_up(store: Store, ready: Ready) -> None:
    owner = store.claim(b"new")
    ready()
    assert owner is not None
    owner.open(b"new", BLOB, 200, 0, 1, FAR_MS, 3, 4, -1, tags=(b"all",), place=PLACE)
    owner.write(b"x" * 30_000)
    owner.abort(7)
    owner.release()


GROWN = content(b"new", 1, 600_000)  # more than is stored


def outgrow(store: Store, ready: Ready) -> None:
    """A window, of which the one who follows has read nothing."""
    owner = store.claim(b"new")
    ready()
    assert owner is not None
    owner.open(b"new", BLOB, 200, 0, 1, FAR_MS, 3, 4, -1, tags=(b"all",), place=PLACE)
    written = 0
    while owner.write(GROWN[written : written + 20_000]):
        written += 20_000
    if owner.outgrow():
        written += owner.write_some(GROWN[written : written + 40_000])
        owner.cut_off()
        owner.write_some(GROWN[written : written + 40_000])
        owner.finish()
    owner.release()


def promote(store: Store, ready: Ready) -> None:
    ready()
    pack(store, *[b"packed"] * 6)


def refresh(store: Store, ready: Ready) -> None:
    ready()
    entry = store.lookup(b"small")
    if entry is not None:
        store.refresh(entry, BLOB + b"More: 1\r\nV: 1\r\n", 0, 1, FAR_MS, 3, 4)


PAGES = b"".join(b"<li>%d of them</li>" % number for number in range(5_000))  # of two pieces


def store_pages(store: Store) -> None:
    store.put(b"pages", BLOB, PAGES, 200, 0, 1, FAR_MS, 3, 4, tags=(b"all",), place=PLACE)
    store.put(b"noise", BLOB, content(b"noise", 1, 70_000), 200, 0, 1, FAR_MS, 3, 4)


def store_large(store: Store) -> None:
    put(store, b"large")


def renew(store: Store, ready: Ready) -> None:
    """A large body stays where it is; the second time it is apart already."""
    ready()
    for turn in range(2):
        entry = store.lookup(b"large")
        if entry is not None:
            store.refresh(entry, BLOB + b"Turn: %d\r\nV: 1\r\n" % turn, 0, 1, FAR_MS, 3, 4)
    del entry
    store.delete(b"large")


def renew_in_place(store: Store, ready: Ready) -> None:
    ready()
    entry = store.lookup(b"small")
    if entry is not None:
        store.renew(entry, 2, FAR_MS - 1, 3, 4)
        store.renew(entry, 3, FAR_MS - 2, 3, 4, date=b"http", at=0)


def purge(store: Store, ready: Ready) -> None:
    ready()
    store.expire(b"small", 1)
    store.delete(b"small")


def purge_by_tag(store: Store, ready: Ready) -> None:
    ready()
    store.purge_tags((b"small", b"packed"), True, 1)
    store.purge_tags((b"other 390", b"small", b"other 391"))


def purge_by_place(store: Store, ready: Ready) -> None:
    ready()
    store.purge_prefix(b"other 39", (1, 3))
    store.purge_prefix(b"small", (1, 0), True, 1)


def outdate(store: Store, ready: Ready) -> None:
    ready()
    for now_ms in range(1, 9):
        store.clear(True, now_ms)


def clear(store: Store, ready: Ready) -> None:
    ready()
    store.clear()


def until_the_index_grows(store: Store) -> None:
    """In one shard; in the others it is near."""
    size = store.statistics().index_bytes
    for number in range(10_000):
        store.put(b"tiny %d" % number, b"", b"", 200, 0, 1, FAR_MS, 0, 0)
        if store.statistics().index_bytes > size:
            return


def add(store: Store, ready: Ready) -> None:
    ready()
    for number in range(10):
        store.put(b"added %d" % number, b"", b"", 200, 0, 1, FAR_MS, 0, 0)


# In the parent, before the worker lives. What others are about needs a full store.
PREPARATIONS = {
    "pack": store_pages,
    "reclaim": some_expire,
    "demote": some_cool,
    "add": until_the_index_grows,
    "renew": store_large,
}
SCENARIOS: dict[str, Scenario] = {
    "replace": replace,
    "evict": evict,
    "reclaim": reclaim,
    "demote": demote,
    "fill of known length": lambda store, ready: follow_through(store, ready, 20_000),
    "fill of unknown length": lambda store, ready: follow_through(store, ready, -1),
    "fill that is packed": lambda store, ready: follow_through(store, ready, -1, 2),
    "fill that is given up": give_up,
    "outgrow": outgrow,
    "promote": promote,
    "pack": pack_large,
    "refresh": refresh,
    "renew": renew,
    "renew in place": renew_in_place,
    "purge": purge,
    "purge by tag": purge_by_tag,
    "purge by place": purge_by_place,
    "outdate": outdate,
    "clear": clear,
    "add": add,
}


OTHERS = [b"other %d" % number for number in range(400)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("full", [False, True], ids=["roomy", "full"])
@pytest.mark.parametrize("follows", [False, True], ids=["alone", "followed"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_death_at_every_step(name: str, follows: bool, full: bool) -> None:
    scenario = SCENARIOS[name]
    alive, number, demoted = False, 0, False
    while not alive:
        number += 1
        # Fast: how hard a body is packed changes no step of the store.
        most = 50_000 if name == "outgrow" else None
        store = Store.create(MIB if full else 4 * MIB, workers=2, compression="fast", max_object=most)
        fill(store)
        put(store, b"small")
        put(store, b"packed", 2)
        if name in PREPARATIONS and (full or name in ("add", "renew", "pack")):
            PREPARATIONS[name](store)
        held = store.lookup(b"packed")
        demotions = store.statistics().demotions
        before = {key for key in (*OTHERS, b"small", b"packed") if check_key(store, key)}
        evictions, purged = store.statistics().evictions, store.statistics().purged

        def story(store: Store, me: Worker, number: int = number) -> None:
            def handshake() -> None:
                me.say()
                me.wait()
                kill_at(store, number)

            if follows:
                scenario(store, handshake)
            else:
                kill_at(store, number)
                scenario(store, lambda: None)
            kill_at(store, 0)

        follower: Fill | None = None
        worker = Worker(store, 0, story)
        if follows:
            assert worker.heard()
            follower = store.claim(b"new")
            worker.tell()
        code = worker.join()
        assert code in (0, -signal.SIGKILL)
        alive = code == 0
        store.sweep(0)
        assert store.check() == [], f"after a death at fault point {number}"
        if follower is not None:
            assert follower.owner or follower.state in (COMPLETE, FAILED)
            if follower.state == COMPLETE and name != "outgrow":
                whole = bytes(follower.read(0, MIB))
                assert whole in (body_of(b"new"), body_of(b"new", 2))
            if follower.window:
                part = bytes(follower.read(0, MIB))
                assert part == GROWN[: len(part)]
                assert follower.lost(0) or part
            follower.release()
        check_key(store, b"new")
        check_key(store, b"large 2")
        lost = {key for key in before if not check_key(store, key)}
        found = store.statistics()
        if name != "clear":
            gone = found.evictions - evictions + found.purged - purged
            assert len(lost) <= gone + (not alive), f"after a death at fault point {number}"
        assert found.resets == 0
        demoted = demoted or found.demotions > demotions
        assert alive or found.rebuilds <= 1
        if held is not None:
            assert bytes(held.body()) == body_of(b"packed", 2)
        assert put(store, b"small", 9)
        assert check_key(store, b"small")
        heir = store.claim(b"new")
        assert heir is not None
        assert heir.owner
        heir.release()
        del held
        store.clear()
        assert store.check() == []
        assert store.statistics().used == 0, f"after a death at fault point {number}"
        assert store.statistics().fills_open == 0
        store.close()
    assert number > 8
    assert demoted or not (full and name == "demote")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("leaves", ["at the end", "in the middle"])
def test_a_reader_of_a_window_dies_at_every_step(leaves: str) -> None:
    alive, number = False, 0
    while not alive:
        number += 1
        store = Store.create(4 * MIB, workers=2, max_object=100_000)
        owner = store.claim(b"new")
        assert owner is not None

        def story(store: Store, me: Worker, number: int = number) -> None:
            reader = store.claim(b"new")
            assert reader is not None
            me.say()
            me.wait()
            kill_at(store, number)
            store.dispatch()
            offset, end = 0, reader.available if leaves == "at the end" else 200_000
            while offset < end:
                view = reader.read(offset, 50_000)
                assert view == GROWN[offset : offset + len(view)]
                offset += len(view)
            reader.passed(offset)
            reader.release()
            kill_at(store, 0)

        worker = Worker(store, 0, story)
        assert worker.heard()
        owner.open(b"new", BLOB, 200, 0, 1, FAR_MS, 3, 4, -1)
        assert owner.write(GROWN[:80_000])
        assert owner.outgrow()
        written = 80_000
        while taken := owner.write_some(GROWN[written : written + 50_000]):
            written += taken
        called: list[int] = []
        owner.subscribe(lambda called=called, owner=owner: called.append(owner.readers))  # type: ignore[misc]
        worker.tell()
        code = worker.join()
        assert code in (0, -signal.SIGKILL)
        alive = code == 0
        if not alive:
            store.sweep(0)
        assert until(store, lambda called=called: 0 in called)  # type: ignore[misc]
        assert owner.write_some(GROWN[written : written + 50_000]) == 50_000, f"after a death at fault point {number}"
        owner.finish()
        assert store.check() == [], f"after a death at fault point {number}"
        owner.release()
        store.clear()
        assert store.check() == []
        assert store.statistics().used == 0, f"after a death at fault point {number}"
        store.close()
    assert number > 8
