"""`python -m tests.instructions [--record]`: count, compare with what is recorded, exit with 1 where it grew.

A version of Python for which nothing is recorded is held to the figures of the nearest one that has some.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.instructions.hits import REQUESTS

HERE = Path(__file__).parent
RECORDED = HERE / "recorded.json"
HITS = 2000
WARM = 200  # what the first hits do once for all is not the hit's price
MAY_GROW = 1.05

_COLLECTED = re.compile(r"Collected : ([0-9]+)")


def collected(case: str, count: int) -> int:
    """Instructions that `count` hits took in all."""
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={directory}/out",
                "--toggle-collect=*Receiving*buffer_updated*",
                sys.executable,
                "-m",
                "tests.instructions.hits",
                case,
                str(count),
            ],
            cwd=HERE.parents[1],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    found = _COLLECTED.search(done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{case}: {done.stderr}")
    return int(found[1])


def nearest(recorded: dict[str, dict[str, int]], version: str) -> str | None:
    """The recorded version of Python that is closest to this one."""
    minor = int(version.split(".")[1])
    return min(recorded, key=lambda each: abs(int(each.split(".")[1]) - minor), default=None)


def main() -> int:
    """Exit code 0 when no case grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.instructions", description="Count instructions a hit.")
    parser.add_argument("--record", action="store_true", help="write the figures down instead of comparing them")
    options = parser.parse_args()
    recorded: dict[str, dict[str, int]] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = {case: (collected(case, WARM + HITS) - collected(case, WARM)) // HITS for case in REQUESTS}
    if options.record:
        recorded[version] = found
        RECORDED.write_text(json.dumps(dict(sorted(recorded.items())), indent=2) + "\n")
    known = recorded.get(nearest(recorded, version) or "", {})
    grown = [case for case, count in found.items() if count > known.get(case, 0) * MAY_GROW]
    for case, count in found.items():
        print(f"{case}: {count} instructions a hit, recorded {known.get(case, 0)}{', GROWN' if case in grown else ''}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
