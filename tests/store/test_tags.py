"""What bears a tag or lies at a place is purged by it or outdated, and counted; what was asked for before is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flyby.store import COMPLETE, FAILED, Fill, Store

MIB = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\n"
FRESH = 100_000


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(4 * MIB)
    yield made
    assert made.check() == []
    made.close()


def place_of(key: bytes) -> tuple[int, int]:
    """`group/branch/...`: up to the first slash and up to the second."""
    group = key.index(b"/") + 1
    end = key.find(b"/", group)
    return group, len(key) if end < 0 else end


def put(store: Store, key: bytes, *tags: bytes, body: bytes = b"body") -> bool:
    place = place_of(key) if b"/" in key else None
    return store.put(key, HEAD, body, 200, 0, 1, FRESH, 5, 7, tags=tags, place=place)


def found(store: Store, *keys: bytes) -> list[bytes]:
    return [key for key in keys if store.lookup(key) is not None]


def fresh_ms(store: Store, key: bytes) -> int | None:
    entry = store.lookup(key)
    return None if entry is None else entry.fresh_ms


def test_a_tag_finds_what_bears_it(store: Store) -> None:
    put(store, b"a", b"red", b"round")
    put(store, b"b", b"red")
    put(store, b"c", b"round")
    put(store, b"d")
    assert store.purge_tag(b"red") == 2
    assert found(store, b"a", b"b", b"c", b"d") == [b"c", b"d"]
    assert store.purge_tag(b"red") == 0
    assert store.purge_tag(b"round") == 1
    assert found(store, b"a", b"b", b"c", b"d") == [b"d"]


def test_several_tags_count_an_object_once(store: Store) -> None:
    put(store, b"a", b"red", b"round")
    put(store, b"b", b"red")
    put(store, b"c", b"round")
    assert store.purge_tags((b"red", b"round", b"none"), True, 50) == [2, 1, 0]
    assert store.purge_tags((b"round", b"none", b"red")) == [2, 0, 1]


def test_tags_are_bytes_of_any_kind(store: Store) -> None:
    tags = [b"", b"\0", b"a b", b"a" * 5000, "ü".encode(), b"A", b"a"]
    for tag in tags:
        put(store, b"key of " + tag[:9] + b"%d" % len(tag), tag)
    assert [store.purge_tag(tag) for tag in tags] == [1] * len(tags)


def test_what_is_replaced_goes_with_its_own_tags(store: Store) -> None:
    put(store, b"a", b"old", b"both")
    put(store, b"a", b"new", b"both")
    assert store.purge_tag(b"old") == 0
    assert found(store, b"a") == [b"a"]
    assert store.purge_tag(b"both") == 1
    assert store.purge_tag(b"new") == 0


def test_a_refresh_keeps_tags_or_changes_them(store: Store) -> None:
    put(store, b"a/b/c", b"old")
    entry = store.lookup(b"a/b/c")
    assert entry is not None
    assert store.refresh(entry, HEAD, 0, 1, FRESH, 2, 3)
    entry = store.lookup(b"a/b/c")
    assert entry is not None
    assert store.refresh(entry, HEAD, 0, 1, FRESH, 2, 3, tags=(b"new",))
    assert store.purge_tag(b"old") == 0
    assert store.purge_prefix(b"a/b", (2, 3), True, 50) == 1
    assert store.purge_tag(b"new") == 1


@pytest.mark.parametrize("body", [b"x" * 9000, bytes(range(256)) * 40], ids=["packed", "promoted"])
def test_compression_and_promotion_keep_tags(store: Store, body: bytes) -> None:
    put(store, b"a/b", b"red", body=body)
    for _ in range(6):
        entry = store.lookup(b"a/b")
        assert entry is not None
        assert bytes(entry.body()) == body
    del entry
    assert store.check() == []
    assert store.purge_tag(b"red") == 1
    assert found(store, b"a/b") == []


def test_the_most_tags_and_one_more(store: Store) -> None:
    tags = [b"%d" % number for number in range(255)]
    assert store.put(b"a", HEAD, b"", 200, 0, 1, 2, 3, 4, tags=tags)
    with pytest.raises(ValueError, match="tags"):
        store.put(b"b", HEAD, b"", 200, 0, 1, 2, 3, 4, tags=[*tags, b"one more"])
    with pytest.raises(ValueError, match="tags"):
        store.put(b"b", HEAD, b"", 200, 0, 1, 2, 3, 4, tags=tags, place=(0, 1))
    assert store.purge_tag(b"200") == 1


def test_soft_ends_freshness_and_keeps_the_windows(store: Store) -> None:
    put(store, b"a", b"red")
    put(store, b"b")
    before = store.lookup(b"a")
    assert before is not None
    assert store.purge_tag(b"red", soft=True, now_ms=50_000) == 1
    after = store.lookup(b"a")
    assert after is not None
    assert (after.fresh_ms, after.swr_s, after.sie_s) == (50_000, 5, 7)
    assert fresh_ms(store, b"b") == FRESH
    assert not store.refresh(before, HEAD, 0, 1, 2 * FRESH, 2, 3)
    assert store.refresh(after, HEAD, 0, 1, 2 * FRESH, 2, 3)
    assert fresh_ms(store, b"a") == 2 * FRESH


PATHS = [b"h/", b"h/news", b"h/news/1", b"h/news/2/x", b"h/newsletter", b"h/news?q", b"h/about", b"i/news"]


@pytest.mark.parametrize(
    ("prefix", "branch", "after", "gone"),
    [
        (b"h/", False, b"", PATHS[:7]),
        (b"h/news", True, b"/?", [b"h/news", b"h/news/1", b"h/news/2/x"]),
        (b"h/news/", True, b"", [b"h/news/1", b"h/news/2/x"]),
        (b"h/news/2", True, b"/?", [b"h/news/2/x"]),
        (b"h/news", False, b"", [b"h/news", b"h/news/1", b"h/news/2/x", b"h/newsletter", b"h/news?q"]),
        (b"h/none", True, b"", []),
        (b"j/", False, b"", []),
    ],
)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_places(store: Store, prefix: bytes, branch: bool, after: bytes, gone: list[bytes], soft: bool) -> None:
    for path in PATHS:
        put(store, path)
    group, end = place_of(prefix)
    assert store.purge_prefix(prefix, (group, end if branch else 0), soft, 50, after) == len(gone)
    stale = [path for path in PATHS if fresh_ms(store, path) == 50]
    missing = [path for path in PATHS if fresh_ms(store, path) is None]
    assert (stale, missing) == ((gone, []) if soft else ([], gone))


def test_everything_soft(store: Store) -> None:
    for key in (b"a", b"b"):
        put(store, key)
    held = store.lookup(b"a")
    assert held is not None
    assert store.clear(soft=True, now_ms=70) == 2
    assert fresh_ms(store, b"a") == 70
    assert not store.refresh(held, HEAD, 0, 1, FRESH, 2, 3)
    put(store, b"b")
    assert fresh_ms(store, b"b") == FRESH
    assert store.clear(soft=True, now_ms=90) == 2
    # What became stale at 70 stays stale since then: a later purge does not lengthen its windows.
    assert (fresh_ms(store, b"a"), fresh_ms(store, b"b")) == (70, 90)
    for now in range(100, 200, 10):
        store.clear(soft=True, now_ms=now)
    assert fresh_ms(store, b"b") is not None
    assert store.clear() == 2
    assert found(store, b"a", b"b") == []


def tagged() -> tuple[Store, dict[bytes, bytes]]:
    """30,000 objects of 50 places, each with one tag that all have and one that a hundred have; and what tag."""
    store = Store.create(64 * MIB)
    tags = {}
    for number in range(30_000):
        key = b"h/%d/%d" % (number % 50, number)
        put(store, key, b"all", b"tag %d" % (number % 300))
        tags[key] = b"tag %d" % (number % 300)
    return store, tags


def test_only_what_matches_is_looked_at_and_no_lock_is_kept_for_long() -> None:
    """What shares a list is chance, and another one in each store: the least of three is held to the bound."""
    steps: list[list[int]] = [[], [], []]
    for _ in range(3):
        store, tags = tagged()
        stored = [key for key in tags if store.lookup(key) is not None]
        assert len(stored) > 29_000
        for number, (act, matches) in enumerate(
            (
                (lambda s: s.purge_tag(b"tag 7"), {key for key in stored if tags[key] == b"tag 7"}),
                (lambda s: s.purge_prefix(b"h/9/", (2, 3)), {key for key in stored if key.startswith(b"h/9/")}),
                (lambda s: s.purge_prefix(b"none/", (5, 0)), set()),
            )
        ):
            before = store.statistics().purge_steps
            meant = [key for key in matches if store.lookup(key) is not None]
            assert act(store) == len(meant)
            # 90,000 tags in 65,536 lists and 16,384 of places: the matches, and few others.
            steps[number].append(store.statistics().purge_steps - before - 2 * len(meant))
            stored = [key for key in stored if key not in matches]
    assert max(min(each) for each in steps) <= 1000
    before = store.statistics().purge_steps
    assert store.purge_tag(b"all") == len(stored)
    assert store.statistics().purge_steps - before <= 2 * len(stored)
    assert store.statistics().objects == 0
    assert store.check() == []
    store.close()


# ---- fetches under way -----------------------------------------------------------------------------------------------

Purge = Callable[[Store], object]
PURGES: dict[str, Purge] = {
    "url": lambda store: store.delete(b"h/a/b\0other variant"),
    "url, soft": lambda store: store.expire(b"h/a/b"),
    "tag": lambda store: store.purge_tag(b"red"),
    "tag, soft": lambda store: store.purge_tag(b"red", soft=True),
    "branch": lambda store: store.purge_prefix(b"h/a", (2, 3)),
    "group": lambda store: store.purge_prefix(b"h/", (2, 0)),
    "everything": lambda store: store.clear(),
    "everything, soft": lambda store: store.clear(soft=True),
}
OTHERS: dict[str, Purge] = {
    "url": lambda store: store.delete(b"h/a/bc"),
    "tag": lambda store: store.purge_tag(b"blue"),
    "branch": lambda store: store.purge_prefix(b"h/aa", (2, 4)),
    "group": lambda store: store.purge_prefix(b"hh/", (3, 0)),
}


def claim(store: Store, name: bytes = b"h/a/b\0variant", since: int | None = None) -> Fill:
    fill = store.claim(name, since)
    assert fill is not None
    return fill


def begin(fill: Fill) -> None:
    assert fill.open(b"h/a/b\0variant", HEAD, 200, 0, 1, FRESH, 0, 0, 4, tags=(b"green", b"red"), place=(2, 3))


def finish(fill: Fill) -> bool:
    assert fill.write(b"body")
    stored = fill.commit()
    fill.release()
    return stored


@pytest.mark.parametrize("purge", PURGES.values(), ids=PURGES.keys())
def test_a_fetch_that_began_before_a_purge_is_not_stored(store: Store, purge: Purge) -> None:
    owner, follower = claim(store), claim(store)
    purge(store)
    late = claim(store)
    begin(owner)
    assert late.owner or late.outdated
    assert not follower.outdated
    late.release()
    assert not finish(owner)
    assert follower.state == COMPLETE
    assert bytes(follower.read(0, 4)) == b"body"
    follower.release()
    assert store.lookup(b"h/a/b\0variant") is None
    again = claim(store)
    assert again.owner
    begin(again)
    assert finish(again)
    assert found(store, b"h/a/b\0variant")


@pytest.mark.parametrize("purge", PURGES.values(), ids=PURGES.keys())
def test_nobody_joins_a_fetch_that_is_known_to_be_purged(store: Store, purge: Purge) -> None:
    owner = claim(store)
    begin(owner)
    purge(store)
    late = claim(store)
    assert late.owner
    assert not finish(owner)
    begin(late)
    assert finish(late)


@pytest.mark.parametrize("purge", OTHERS.values(), ids=OTHERS.keys())
def test_purges_of_other_things_do_not_touch_a_fetch(store: Store, purge: Purge) -> None:
    owner = claim(store)
    purge(store)
    late = claim(store)
    assert not late.owner
    begin(owner)
    purge(store)
    assert not late.outdated
    assert finish(owner)
    late.release()
    assert found(store, b"h/a/b\0variant")


@pytest.mark.parametrize("purge", PURGES.values(), ids=PURGES.keys())
def test_a_claim_can_be_dated_back(store: Store, purge: Purge) -> None:
    mark = store.mark()
    purge(store)
    fill = claim(store, since=mark)
    begin(fill)
    assert not finish(fill)
    assert not store.put(b"h/a/b", HEAD, b"", 200, 0, 1, 2, 3, 4, tags=(b"red",), place=(2, 3), since=mark)
    fill = claim(store)
    begin(fill)
    assert finish(fill)


def test_the_memory_of_purges_errs_on_one_side_only(store: Store) -> None:
    owner = claim(store)
    begin(owner)
    store.purge_tag(b"red")
    for number in range(20_000):
        store.purge_tag(b"%d" % number)
    assert not finish(owner)


def test_a_failed_fetch_says_so_and_not_that_it_is_outdated(store: Store) -> None:
    owner, follower = claim(store), claim(store)
    owner.abort(7)
    assert (follower.state, follower.reason, follower.outdated) == (FAILED, 7, False)
    owner.release()
    follower.release()


def test_only_where_there_is_none_and_new_times(store: Store) -> None:
    def once(now: int, fresh: int) -> bool:
        return store.put(b"k", b"", b"%d" % now, 0, 0, now, fresh, 0, 0, unless_fresh_at=now)

    assert once(10, 20)
    assert not once(15, 99)
    assert once(20, 30)
    assert store.retime(b"k", 25, 40)
    assert not once(30, 99)
    assert not store.retime(b"k", 40, 99)
    assert not store.retime(b"none", 0, 99)
    assert once(40, 50)
