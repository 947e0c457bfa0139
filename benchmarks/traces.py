"""Requests in the order in which they come, and the caches that ours is held to.

A trace is a list of object numbers, made by a seeded generator, so that every cache sees the same one. Its objects are
all of one size: what is compared is which objects a cache keeps, not how it packs them.

    zipf a      the nth most popular object is asked for in proportion to 1 / n^a
    scan        zipf 0.9, and now and then a run of objects that nobody asks for again, as long as the cache is large
    drift       zipf 0.9, whose objects change places with one another all the time, all of them ten times over in all
    shift       zipf 0.9, of which a tenth, with all that is popular, is forgotten at one stroke, ten times
"""

from __future__ import annotations

import importlib.util
import itertools
import random
from collections import OrderedDict
from collections.abc import Sequence


def zipf(objects: int, requests: int, alpha: float, seed: int = 1) -> list[int]:
    """Object numbers; a low number is not a popular one, so that nothing can be guessed from the order."""
    generator = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank**alpha for rank in range(1, objects + 1)))
    names = list(range(objects))
    generator.shuffle(names)
    return [names[rank] for rank in generator.choices(range(objects), cum_weights=weights, k=requests)]


def scan(objects: int, requests: int, capacity: int, seed: int = 1) -> list[int]:
    """Eight scans; their requests come on top."""
    trace: list[int] = []
    fresh = itertools.count(objects)
    popular = zipf(objects, requests, 0.9, seed)
    part = requests // 8
    for start in range(0, requests, part):
        trace += popular[start : start + part]
        trace += [next(fresh) for _ in range(capacity)]
    return trace


def drift(objects: int, requests: int, seed: int = 1) -> list[int]:
    """A hundred times, a tenth of the objects changes places."""
    generator = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank**0.9 for rank in range(1, objects + 1)))
    names = list(range(objects))
    generator.shuffle(names)
    trace: list[int] = []
    for _ in range(100):
        trace += [names[rank] for rank in generator.choices(range(objects), cum_weights=weights, k=requests // 100)]
        for _ in range(objects // 20):
            one, other = generator.randrange(objects), generator.randrange(objects)
            names[one], names[other] = names[other], names[one]
    return trace


def shift(objects: int, requests: int, seed: int = 1) -> list[int]:
    """What was most popular is forgotten, and what was least popular comes up, a tenth at a time."""
    generator = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank**0.9 for rank in range(1, objects + 1)))
    names = list(range(objects))
    generator.shuffle(names)
    trace: list[int] = []
    for _ in range(10):
        trace += [names[rank] for rank in generator.choices(range(objects), cum_weights=weights, k=requests // 10)]
        names = names[objects // 10 :] + names[: objects // 10]
    return trace


def lru(trace: Sequence[int], capacity: int) -> float:
    """The hit ratio of a plain LRU."""
    kept: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for name in trace:
        if name in kept:
            hits += 1
            kept.move_to_end(name)
        else:
            kept[name] = None
            if len(kept) > capacity:
                kept.popitem(last=False)
    return hits / len(trace)


def reference(trace: Sequence[int], capacity: int) -> float | None:
    """The hit ratio of libcachesim's S3-FIFO (PyPI, by the algorithm's authors); None where it is not installed."""
    if importlib.util.find_spec("libcachesim") is None:
        return None
    from libcachesim import S3FIFO, Request

    cache = S3FIFO(cache_size=capacity)
    request = Request()
    request.obj_size = 1
    hits = 0
    for name in trace:
        request.obj_id = name
        hits += cache.get(request)
    return hits / len(trace)
