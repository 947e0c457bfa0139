"""A soak: mixed traffic for minutes, after which an edge must hold what it held before, and nothing else.

Clients that ask, read slowly, leave in every way and come in crowds; an origin that is slow, endless, early or broken.
Every response that comes to its end is compared with what the origin sends. The edge is first used for a while, so that
what is made once is there; then, at rest, it is looked at, used for the rest of the time, and looked at again: memory,
descriptors, threads, tasks, leases of origin connections, fetches, and bytes of the store that something still holds.

    edge.py      the edge, as a process that tells what it holds
    town.py      the origin, and how clients reach the edge
    traffic.py   the kinds of traffic: a table
    holdings.py  what the edge holds, and what of it may differ
    __main__.py  `python -m tests.soak MINUTES`
"""
