"""The benchmark: flyby beside the caches that people would run instead, on one machine, in one interleaved run.

`python -m benchmarks` starts every server that is installed in front of the same origin, loads each in turn with wrk,
round after round, and prints medians. `README.md` beside this file says how to read the numbers.

It is a tool, not a part of the package: it imports nothing of flyby and runs it as anybody would, by its command.
"""
