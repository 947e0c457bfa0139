"""`python -m tests.stubs`: every Cython module against its stub, by mypy's stubtest.

What Cython adds to each module or class by itself belongs in no stub, and is allowed for; so is `__init__`, since
Cython does not tell a constructor's signature.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from mypy.stubtest import main

SRC = Path(__file__).parents[1] / "src"
ADDED_BY_CYTHON = ("__pyx_capi__", "__pyx_vtable__", "__test__", "__reduce_cython__", "__setstate_cython__", "__init__")
# Python 3.11 has no name for the buffer protocol, though the classes have it (PEP 688).
ADDED_BY_PYTHON_312 = ("__buffer__",)

if __name__ == "__main__":
    modules = sorted(".".join(path.relative_to(SRC).with_suffix("").parts) for path in SRC.rglob("*.pyx"))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as allowed:
        allowed.write("".join(rf".*\.{name}" + "\n" for name in (*ADDED_BY_CYTHON, *ADDED_BY_PYTHON_312)))
        allowed.flush()
        sys.argv[1:] = ["--allowlist", allowed.name, "--ignore-unused-allowlist", "--ignore-disjoint-bases", *modules]
        sys.exit(main())
