"""The public HTTP cache test suite (cache-tests.fyi, on npm as `http-cache-tests`), run against `flyby serve`.

The suite brings an origin (`server/server.mjs`) and a client (`cli.mjs`); flyby stands between them in one of several
forms: in either profile, with so many workers, to clients with TLS or without, and in front of the origin itself or of
an agent, through the tunnel. `python -m tests.conformance` runs it and holds the results to a bar.

    forms.py      the forms, and flyby started in one of them
    suite.py      where the suite is, its origin and its client as processes
    verdicts.py   what a result counts as, the counts, the bars, and the tests that contradict the RFC
"""
