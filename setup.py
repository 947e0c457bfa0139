"""Names the Cython extensions and says how they are compiled; everything else about the package is in pyproject.toml.

Cython and the C compiler both use every core that the process may run on. The generated C goes below `build/`, so that
it is in no package and beside no source. The shared objects carry no symbols, unless CFLAGS asks for debug information,
as a sanitizer's build does. FLYBY_TRACE=1 makes every line tell that it runs; tests/reading counts with it.
What other CFLAGS made is kept in a directory of its own, so that no build takes it for what it would make itself.
"""

import os
import re

from Cython.Build import cythonize
from setuptools import Extension, setup

EXTENSIONS = [
    "flyby.log._lines",
    "flyby.proxy.fetching._fetch",
    "flyby.proxy.fetching._response",
    "flyby.proxy.fetching._upload",
    "flyby.proxy.fetching._verdict",
    "flyby.proxy.http1._connection",
    "flyby.proxy.lane._crowd",
    "flyby.proxy.lane._lane",
    "flyby.proxy.road._content",
    "flyby.proxy.road._downstream",
    "flyby.proxy.road._exchange",
    "flyby.proxy.road._identity",
    "flyby.proxy.road._outbox",
    "flyby.proxy.routing._onward_head",
    "flyby.proxy.routing._signpost",
    "flyby.proxy.routing._upstream_fields",
    "flyby.proxy.stored._condition",
    "flyby.proxy.stored._reply",
    "flyby.proxy.stored._selection",
    "flyby.store._arena",
    "flyby.store._attachment",
    "flyby.store._check",
    "flyby.store._entry",
    "flyby.store._eviction",
    "flyby.store._fault",
    "flyby.store._fill",
    "flyby.store._guard",
    "flyby.store._hash",
    "flyby.store._index",
    "flyby.store._inflight",
    "flyby.store._pack",
    "flyby.store._purge",
    "flyby.store._purged",
    "flyby.store._queues",
    "flyby.store._rebuild",
    "flyby.store._shard",
    "flyby.store._statistics",
    "flyby.store._store",
    "flyby.store._tags",
    "flyby.store._view",
    "flyby.store._window",
    "flyby.upstream._connection",
    "flyby.upstream._deadline",
    "flyby.upstream._direct",
    "flyby.upstream._exchange",
    "flyby.upstream._member",
    "flyby.upstream._outgoing",
    "flyby.upstream._pool",
    "flyby.upstream._waiter",
    "flyby.wire._body",
    "flyby.wire._fields",
    "flyby.wire._glance",
    "flyby.wire._head",
    "flyby.wire._names",
    "flyby.wire._plain",
    "flyby.wire._scan",
    "flyby.wire._serialise",
    "flyby.wire._target",
]

CORES = len(os.sched_getaffinity(0))
CFLAGS = os.environ.get("CFLAGS", "")
DEBUG = "-g" in CFLAGS.split()
TRACE = bool(os.environ.get("FLYBY_TRACE"))
BUILD = "build/" + "-".join(["trace" if TRACE else "plain", *re.findall(r"\w+", CFLAGS)])

# Python's own CFLAGS come first, and say -g and -O3.
COMPILE = ["-O2"] if DEBUG else ["-O2", "-g0"]
LINK = [] if DEBUG else ["-Wl,-s"]
MACROS = [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")] if TRACE else []


def extension(name):
    """The extension of one .pyx."""
    source = f"src/{name.replace('.', '/')}.pyx"
    return Extension(name, [source], extra_compile_args=COMPILE, extra_link_args=LINK, define_macros=MACROS)


if __name__ == "__main__":  # what Cython starts may import this file again
    setup(
        ext_modules=cythonize(
            [extension(name) for name in EXTENSIONS],
            language_level=3,
            nthreads=CORES,
            build_dir="build/cython-trace" if TRACE else "build/cython",
            compiler_directives={"linetrace": TRACE},
        ),
        options={"build": {"build_base": BUILD}, "build_ext": {"parallel": CORES}},
    )
