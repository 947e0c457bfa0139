"""flyby: a caching, programmable HTTP edge for an application that runs somewhere else.

Public and under semantic versioning are the names below; everything else may change.
"""

from typing import TYPE_CHECKING

from flyby.config import Backend, Cache, Config, Route, Server
from flyby.errors import ConfigError, FlybyError, StoreError, UpstreamError, WireError

if TYPE_CHECKING:
    from flyby.server.edge import Edge
    from flyby.server.listeners import BindError
    from flyby.store import Partials

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BindError",
    "Cache",
    "Config",
    "ConfigError",
    "Edge",
    "FlybyError",
    "Partials",
    "Route",
    "Server",
    "StoreError",
    "UpstreamError",
    "WireError",
    "__version__",
]


def __getattr__(name: str) -> object:
    # Edge draws in the whole proxy, BindError the server, Partials the store; what only checks a configuration does not
    # wait for that.
    if name == "Edge":
        from flyby.server.edge import Edge

        return Edge
    if name == "BindError":
        from flyby.server.listeners import BindError

        return BindError
    if name == "Partials":
        from flyby.store import Partials

        return Partials
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
