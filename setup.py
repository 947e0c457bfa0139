"""Names the Cython extensions; everything else about the package stands in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

EXTENSIONS = [
    "flyby.log._lines",
    "flyby.wire._fields",
    "flyby.wire._serialise",
    "flyby.wire._scan",
    "flyby.wire._target",
    "flyby.wire._head",
    "flyby.wire._body",
    "flyby.wire._glance",
    "flyby.upstream._deadline",
    "flyby.upstream._outgoing",
    "flyby.upstream._connection",
    "flyby.upstream._pool",
    "flyby.proxy._answer",
    "flyby.proxy._responder",
    "flyby.proxy._passing",
    "flyby.proxy._crowd",
    "flyby.proxy._relay",
    "flyby.proxy._upstream_fields",
    "flyby.store._hash",
    "flyby.store._guard",
    "flyby.store._arena",
    "flyby.store._inflight",
    "flyby.store._pack",
    "flyby.store._index",
    "flyby.store._queues",
    "flyby.store._rebuild",
    "flyby.store._shard",
    "flyby.store._tags",
    "flyby.store._purged",
    "flyby.store._purge",
    "flyby.store._eviction",
    "flyby.store._attachment",
    "flyby.store._entry",
    "flyby.store._fill",
    "flyby.store._check",
    "flyby.store._statistics",
    "flyby.store._store",
    "flyby.store._view",
    "flyby.store._fault",
    "flyby.proxy._outbox",
    "flyby.proxy._front",
    "flyby.proxy._signpost",
    "flyby.proxy._selection",
    "flyby.proxy._reply",
    "flyby.proxy._condition",
    "flyby.proxy._lane",
]

setup(
    ext_modules=cythonize(
        [Extension(name, [f"src/{name.replace('.', '/')}.pyx"], extra_compile_args=["-O2"]) for name in EXTENSIONS],
        language_level=3,
        annotate=False,
    )
)
