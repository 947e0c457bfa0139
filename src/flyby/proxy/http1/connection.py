"""The HTTP/1 connection as asyncio's loops want it: they look for their own class among a protocol's bases."""

from __future__ import annotations

import asyncio

from flyby.proxy.http1._connection import Connection as CompiledConnection


class Connection(CompiledConnection, asyncio.BufferedProtocol):  # type: ignore[misc]  # its transport is a Transport
    """One client connection; see `_connection` and `_receiving`."""

    __slots__ = ()
