"""One connection to an origin, as asyncio's transports know it: see `_connection.pyx` for what it does.

asyncio's own transports ask whether a protocol is a `BufferedProtocol`; an extension type cannot be one, its subclass
can.
"""

from __future__ import annotations

import asyncio

from flyby.upstream._connection import Connection


class UpstreamConnection(Connection, asyncio.BufferedProtocol):
    """A connection that the edge dialled, or that was donated to it."""

    __slots__ = ()
