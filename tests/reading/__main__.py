"""`python -m tests.reading`: for each request its files, with the lines that ran and the lines there are."""

from __future__ import annotations

import sys

from tests.reading.counting import built_for_it
from tests.reading.plays import BOUNDS, HELD, play


def main() -> int:
    if not built_for_it():
        print("this build tells of no lines of Cython: FLYBY_TRACE=1 python3.13 setup.py build_ext --inplace")
        return 2
    over = False
    for what, bound in BOUNDS.items():
        seen = play(what)
        files = seen.files(bound.leave_out)
        for name, lines in sorted(files.items(), key=lambda each: -each[1]):
            print(f"  {len(seen.lines[name]):5} of {lines:5}  {name}")
        total = sum(files.values())
        apart = f", beside {bound.leave_out}" if bound.leave_out else ""
        print(f"{what}: {len(files)} files, {total} lines{apart}; bound {bound.files} and {bound.lines}\n")
        over = over or len(files) > bound.files or total > bound.lines
    return int(over and HELD)


if __name__ == "__main__":
    sys.exit(main())
