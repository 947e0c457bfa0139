"""The control state: backends, their tokens and their releases, which outlive every process.

    flyby backend, flyby token ──writes──▶ DIR/flyby.db ◀──reads, polls `changed`── each worker of the edge
                                                        ◀──releases that dynos bring──┘

One SQLite file in a directory that only its owner can read. The command line writes it, every worker opens it for
itself after the fork and asks ten times a second whether anything has changed; so nothing has to be told to a running
edge. `State` is the way in. `schema` owns the file, `backends`, `tokens` and `releases` own a table each.
"""

from flyby.control.backends import BackendRecord, backend_name
from flyby.control.directory import DATABASE, default_directory
from flyby.control.releases import ReleaseRecord
from flyby.control.state import State
from flyby.control.tokens import TokenRecord
from flyby.errors import StateError

__all__ = [
    "DATABASE",
    "BackendRecord",
    "ReleaseRecord",
    "State",
    "StateError",
    "TokenRecord",
    "backend_name",
    "default_directory",
]
