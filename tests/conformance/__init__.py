"""The public HTTP cache test suite (cache-tests.fyi, on npm as `http-cache-tests`), run against `flyby serve`.

The suite brings an origin (`server/server.mjs`) and a client (`cli.mjs`); flyby stands between them, with nothing told
to it but its profile and the number of its workers. `python -m tests.conformance` runs it and holds the results to a
bar.

    suite.py      where the suite is, its origin and its client as processes
    verdicts.py   what a result counts as, the counts, the bars, and the tests that contradict the RFC
"""
