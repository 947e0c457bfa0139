"""Random messages, whole against split: what a cut between two bytes changes is a fault, and a way to smuggle.

hypothesis makes the messages, from good ones that are damaged in the places that tell (and shrinks what it finds to
the least that shows it). `tests/wire/test_properties.py` looks at the readers with random cuts; here every cut is
tried, and the same is done with a whole edge, where the fast roads and the plain one have to agree.

    test_readers.py  heads and chunked content through the readers, cut in two at every byte
    test_edge.py     requests through an edge: whole, byte by byte and cut anywhere, to an origin that says what it saw

`FUZZ_EXAMPLES=20000 python -m pytest tests/fuzz` looks for longer than the tests do; `tox -e long` does.
"""

from __future__ import annotations

import os

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
TIMEOUT_S = 60 + EXAMPLES  # a bound, far beyond what they take
