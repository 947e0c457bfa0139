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
        every, files = seen.files(), seen.files(bound.leave_out)
        for name, lines in sorted(every.items(), key=lambda each: -each[1]):
            print(f"  {len(seen.lines[name]):5} of {lines:5}  {name}")
        total = sum(files.values())
        print(f"{what}: {len(every)} files, {sum(every.values())} lines; bounded: {len(files)} of {bound.files} files,")
        print(f"  {total} of {bound.lines} lines, without {bound.leave_out or 'exception'}\n")
        over = over or len(files) > bound.files or total > bound.lines
    return int(over and HELD)


if __name__ == "__main__":
    sys.exit(main())
