"""Instructions a hit, counted: `python -m tests.instructions`, the check that the fast lane stays fast.

Times depend on the machine and its neighbours; callgrind (of valgrind) counts instructions and does not. `hits.py` is
run under it for each case, and what it counts inside `Front.buffer_updated` may be at most 5% above what
`recorded.json` says for this version of Python. Below is progress: `--record` writes the new figures down.
"""
