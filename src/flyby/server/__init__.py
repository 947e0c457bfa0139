"""Processes and sockets: the supervisor, its workers, where they listen, and the composition root `Edge`.

`run` is what `flyby serve` calls. `Edge` is imported when it is asked for: the supervisor's own tests, and a program
that only wants the supervisor, need not load the whole proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyby.server.start import run

if TYPE_CHECKING:
    from flyby.server.edge import Edge as Edge

__all__ = ["Edge", "run"]


def __getattr__(name: str) -> object:
    if name == "Edge":
        from flyby.server.edge import Edge

        return Edge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
