"""The agent as one file: a zipapp (PEP 441) that any Python 3.9 or newer runs, the same bytes from the same sources.

    #!/usr/bin/env python3 ⏎ ZIP { __main__.py, flyby_agent/*.py in order of name }      every entry: 1980-01-01, 0644

Reproducible, so that its hash can be pinned: names sorted, no times, one compression level, no bytecode (which would
tie it to one version of Python). This module is not part of what it makes.
"""

from __future__ import annotations

import io
import os
import zipfile

SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = b"import sys\n\nfrom flyby_agent.command import main\n\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that ZIP can say


def zipapp() -> bytes:
    """The whole file; write it with mode 0755."""
    here = os.path.dirname(os.path.abspath(__file__))
    entries = {"__main__.py": _MAIN}
    for name in os.listdir(here):
        if name.endswith(".py") and name not in ("archive.py", "__main__.py"):
            with open(os.path.join(here, name), "rb") as source:
                entries[f"flyby_agent/{name}"] = source.read()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is made
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, entries[name], zipfile.ZIP_DEFLATED, 9)
    return SHEBANG + packed.getvalue()
