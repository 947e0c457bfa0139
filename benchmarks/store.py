"""`python -m benchmarks.store`: what the store holds, how fast it finds, what it keeps, and how a crowd fares.

    capacity   as many small objects as are asked for, in a cache of exactly their bytes and 96 more for each
    lookup     the time of a lookup as the number of objects grows, keys drawn at random over all of them
    ratio      hit ratios at an equal number of objects, beside a plain LRU and libcachesim's S3-FIFO
    lz4        how much text fits, packed and plain, and what packing costs
    text       hit ratios of bodies of text, which are packed when they have proved worth it, beside `off`
    crowd      a thousand requests for one cold object over several workers (`followers.py`)

All but the last use a store in this process; nothing is compared with another day's figures but by a reader.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import random
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Literal

from benchmarks import followers, traces
from benchmarks.machine import machine
from benchmarks.servers import ServerError
from flyby.store import Store

OVERHEAD = 96  # the most that an object may take beside its key, head and body
HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: "0123456789"\r\n\r\n'
BODY = b'{"id": 12345678, "name": "a small object of a hundred bytes, or so", "price": "19.99", "tags": ["new"]}'

BEGAN_MS = time.time_ns() // 1_000_000

Row = dict[str, object]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _key(number: int) -> bytes:
    return b"http/shop.example.com/p/%d" % (10_000_000 + number)


def _put(store: Store, number: int) -> bool:
    return _fresh(store, _key(number), HEAD, BODY, False)


def _fresh(store: Store, key: bytes, head: bytes, body: bytes, compress: bool) -> bool:
    """Put what is fresh until tomorrow; what has expired would be the first to go."""
    return store.put(key, head, body, 200, 0, BEGAN_MS, BEGAN_MS + 86_400_000, 0, 0, compress=compress)


def capacity(options: argparse.Namespace) -> Iterator[Row]:
    """All of them must be there at the end, in the memory that their bytes and the allowance make."""
    own = len(_key(0)) + len(HEAD) + len(BODY)
    size = options.objects * (own + OVERHEAD)
    store = Store.create(max(size, 1 << 20))
    began = time.process_time()
    for number in range(options.objects):
        _put(store, number)
    took = time.process_time() - began
    found = store.statistics()
    used = found.size - found.free
    yield {
        "objects": options.objects,
        "cache MiB": found.size >> 20,
        "kept": found.objects,
        "own bytes": own,
        "overhead, bytes each": round(used / max(found.objects, 1) - own, 1),
        "CPU µs a put": round(took / options.objects * 1e6, 2),
    }
    store.close()


def lookup(options: argparse.Namespace) -> Iterator[Row]:
    """The least CPU time of five passes over keys in random order; each is looked up, and let go, once a pass."""
    own = len(_key(0)) + len(HEAD) + len(BODY)
    store = Store.create(options.objects * (own + 160) + (8 << 20))
    stored = 0
    for wanted in (10**power for power in range(4, 9)):
        if wanted > options.objects:
            break
        for number in range(stored, wanted):
            _put(store, number)
        stored = wanted
        generator = random.Random(1)
        keys = [_key(generator.randrange(wanted)) for _ in range(100_000)]
        found = sum(store.lookup(key) is not None for key in keys)
        best = min(_timed(store.lookup, keys) for _ in range(5))
        memory = _touched(wanted * (own + 80))
        places = [generator.randrange(len(memory)) for _ in keys]
        byte = min(_timed(memory.__getitem__, places) for _ in range(5))
        empty = min(_timed(len, keys) for _ in range(5))
        yield {
            "objects": wanted,
            "found": f"{found / len(keys):.2%}",
            "CPU ns a lookup": round(best / len(keys) * 1e9),
            "of it the loop": round(empty / len(keys) * 1e9),
            "ns a byte of as much memory": round(byte / len(keys) * 1e9),
        }
    store.close()


def _touched(size: int) -> bytearray:
    """Memory whose pages are all there, as the store's are."""
    memory = bytearray(size)
    memory[::4096] = b"x" * len(range(0, size, 4096))
    return memory


def _timed(work: Callable[[Any], object], keys: Sequence[object]) -> float:
    began = time.process_time()
    for key in keys:
        work(key)
    return time.process_time() - began


def ratio(options: argparse.Namespace) -> Iterator[Row]:
    """The store's own capacity in objects of this size is measured first, and given to the others."""
    size = 16 << 20
    body = os.urandom(900)

    def put(store: Store, name: int) -> None:
        _fresh(store, b"%d" % name, b"", body, False)

    store = Store.create(size)
    for number in range(100_000):
        put(store, -number - 1)
    room = store.statistics().objects
    store.close()
    objects, requests = room * 10, options.requests
    made: list[tuple[str, list[int]]] = [
        (f"zipf {alpha}", traces.zipf(objects, requests, alpha)) for alpha in (0.7, 0.8, 0.9, 1.0, 1.1)
    ]
    made += [
        ("scan", traces.scan(objects, requests, room)),
        ("drift", traces.drift(objects, requests)),
        ("shift", traces.shift(objects, requests)),
    ]
    for name, trace in made:
        store = Store.create(size)
        hits = 0
        for number in trace:
            if store.lookup(b"%d" % number) is not None:
                hits += 1
            else:
                put(store, number)
        held = store.statistics().objects
        store.close()
        plain, theirs = traces.lru(trace, room), traces.reference(trace, room)
        yield {
            "trace": name,
            "objects": f"{held:,} of {objects:,}",
            "flyby": f"{hits / len(trace):.2%}",
            "LRU": f"{plain:.2%}",
            "S3-FIFO (libcachesim)": "" if theirs is None else f"{theirs:.2%}",
            "above LRU, points": f"{(hits / len(trace) - plain) * 100:+.2f}",
            "above S3-FIFO, points": "" if theirs is None else f"{(hits / len(trace) - theirs) * 100:+.2f}",
        }


def lz4(options: argparse.Namespace) -> Iterator[Row]:
    """How much text there is in a full store, and what each text costs to store; `mixed` has as many of each length."""
    generator = random.Random(1)
    sources = [path.read_text("utf-8", "replace") for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    paragraphs = [text for text in "\n".join(topics.values()).split("\n\n") if 100 < len(text) < 600]

    def endless(part: Callable[[], str]) -> Callable[[int], str]:
        def text(length: int) -> str:
            parts: list[str] = []
            while sum(map(len, parts)) < length:
                parts.append(part())
            return "".join(parts)[:length]

        return text

    def source(length: int) -> str:
        text = generator.choice([text for text in sources if len(text) > length])
        start = generator.randrange(len(text) - length)
        return text[start : start + length]

    def prose(length: int) -> str:
        whole = "\n\n".join(paragraphs)
        start = generator.randrange(len(whole) - length)
        return whole[start : start + length]

    def record() -> str:
        name = generator.choice(paragraphs)[:40]
        return json.dumps({"id": generator.randrange(10**9), "name": name, "price": 9.99, "stock": True}) + ", "

    kinds: list[tuple[str, Callable[[int], str]]] = [
        ("program text", source),
        ("English prose", prose),
        ("HTML", endless(lambda: f'<p class="text-body mt-2">{html.escape(generator.choice(paragraphs))}</p>\n')),
        ("JSON", endless(record)),
    ]
    lengths = (4096, 16_384, 65_536)
    for kind, make in kinds:
        texts = {length: [make(length).encode()[:length] for _ in range(40)] for length in lengths}
        for name, bodies in [
            *((f"{length:,}", texts[length]) for length in lengths),
            ("mixed", [texts[length][number] for number in range(40) for length in lengths]),
        ]:
            held, took = zip(*(_filled(bodies, way) for way in ("off", "fast", "high")), strict=True)
            yield {
                "text": kind,
                "bytes each": name,
                "off, MiB of text": f"{held[0] / (1 << 20):.1f}",
                "fast": f"{held[1] / held[0]:.2f} times",
                "high": f"{held[2] / held[0]:.2f} times",
                "CPU µs a put, off": round(took[0] * 1e6),
                "with fast": round(took[1] * 1e6),
                "with high": round(took[2] * 1e6),
            }


def _filled(bodies: Sequence[bytes], way: Literal["off", "fast", "high"]) -> tuple[int, float]:
    """Bytes of text in a store of 8 MiB that is full, and seconds of CPU for each."""
    store = Store.create(8 << 20, compression=way)
    number = 0
    began = time.process_time()
    while store.statistics().evictions < 100:
        for _ in range(50):
            _fresh(store, b"%d" % number, HEAD, bodies[number % len(bodies)], True)
            number += 1
    took = time.process_time() - began
    held = store.statistics().plain_bytes
    store.close()
    return held, took / number


def text(options: argparse.Namespace) -> Iterator[Row]:
    """Misses are stored by a fetch, and what is to be packed is packed between two requests."""
    generator = random.Random(1)
    whole = "\n\n".join(topics.values()).encode()
    objects = 4000
    lengths = [generator.choice((2_000, 8_000, 20_000, 60_000, 100_000)) for _ in range(objects)]
    requests = min(options.requests, 60_000)
    made: list[tuple[str, list[int]]] = [
        (f"zipf {alpha}", traces.zipf(objects, requests, alpha)) for alpha in (0.7, 0.9, 1.1)
    ]
    made += [
        ("scan", traces.scan(objects, requests, objects // 8)),
        ("drift", traces.drift(objects, requests)),
        ("shift", traces.shift(objects, requests)),
    ]
    for name, trace in made:
        row: Row = {"trace": name}
        for way in ("off", "fast", "high"):
            store = Store.create(32 << 20, max_object=1 << 20, compression=way)
            hits = 0
            began = time.process_time()
            for number in trace:
                if store.lookup(b"%d" % number) is not None:
                    hits += 1
                else:
                    length = lengths[number % objects]
                    start = number * 7919 % (len(whole) - length)
                    _fetched(store, b"%d" % number, whole[start : start + length])
                while store.pack_some():
                    pass
            row[way] = f"{hits / len(trace):.2%}"
            row[f"CPU µs, {way}"] = round((time.process_time() - began) / len(trace) * 1e6)
            row["packed"] = f"{store.statistics().compressed} of {store.statistics().objects}"
            store.close()
        yield row


def _fetched(store: Store, key: bytes, body: bytes) -> None:
    fill = store.claim(key)
    if fill is not None:
        if fill.open(key, HEAD, 200, 0, BEGAN_MS, BEGAN_MS + 86_400_000, 0, 0, len(body)) and fill.write(body):
            fill.commit()
        fill.release()


def crowd(options: argparse.Namespace) -> Iterator[Row]:
    """Over two workers and over four."""
    for workers in (2, 4):
        for clients in (100, options.clients):
            seen = sorted(followers.crowds(workers, clients, options.rounds), key=lambda each: each.behind(1.0))
            middle, best = seen[len(seen) // 2], seen[0]
            yield {
                "workers": workers,
                "requests": clients,
                "fetches": max(each.fetches for each in seen),
                "complete": min(each.complete for each in seen),
                "CPU µs to wait": f"{middle.asking_us:.1f}",
                "CPU µs to answer": f"{middle.answering_us:.1f}",
                **{f"{share:.0%} within ms": f"{middle.behind(share):.1f}" for share in (0.5, 0.99)},
                "last ms": f"{middle.behind(1.0):.1f}",
                "no core ms": f"{middle.waited_ms:.1f}",
                "best last ms": f"{best.behind(1.0):.1f}",
            }


SUITES: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "capacity": capacity,
    "lookup": lookup,
    "ratio": ratio,
    "lz4": lz4,
    "text": text,
    "crowd": crowd,
}


def render(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    columns = list(rows[0])
    lines = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    written = [
        "| " + " | ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([written[0], "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|", *written[1:]])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when everything that was asked for could be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description="Measure flyby's store.")
    parser.add_argument("suite", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)} [all]")
    parser.add_argument("--objects", type=int, default=1_000_000, help="of capacity and lookup [%(default)s]")
    parser.add_argument("--requests", type=int, default=2_000_000, help="of every trace [%(default)s]")
    parser.add_argument("--clients", type=int, default=1000, help="of the larger crowd [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="of every crowd [%(default)s]")
    options = parser.parse_args(argv)
    unknown = [name for name in options.suite if name not in SUITES]
    if unknown:
        parser.error(f"there is no suite {unknown[0]!r}")
    print(machine().describe())
    for name in options.suite or SUITES:
        _say(f"{name} ...")
        try:
            rows = list(SUITES[name](options))
        except ServerError as error:
            _say(f"benchmarks: {error}")
            return 1
        print(f"\n{name}\n\n{render(rows)}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
