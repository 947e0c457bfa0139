"""`python -m tests.stubs`: every Cython module against its stub, by mypy's stubtest.

What Cython adds to each module or class by itself belongs in no stub, and is allowed for.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from mypy.stubtest import main

SRC = Path(__file__).parents[1] / "src"
ADDED_BY_CYTHON = ("__pyx_capi__", "__pyx_vtable__", "__test__", "__reduce_cython__", "__setstate_cython__")

if __name__ == "__main__":
    modules = sorted(".".join(path.relative_to(SRC).with_suffix("").parts) for path in SRC.rglob("*.pyx"))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as allowed:
        allowed.write("".join(rf".*\.{name}" + "\n" for name in ADDED_BY_CYTHON))
        allowed.flush()
        sys.argv[1:] = ["--allowlist", allowed.name, "--ignore-unused-allowlist", *modules]
        sys.exit(main())
