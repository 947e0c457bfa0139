"""A connection to an origin, as asyncio's transports know it: `_connection.pyx` and `_direct.pyx` say what it does.

asyncio's own transports ask whether a protocol is a `BufferedProtocol`; an extension type cannot be one, its subclass
can.
"""

from __future__ import annotations

import asyncio

from flyby.upstream._direct import DirectConnection


class UpstreamConnection(DirectConnection, asyncio.BufferedProtocol):
    """A connection that the edge dialled, or that was donated to it."""

    __slots__ = ()
