"""The way to the origins: names, connections, pools, the choice among several, and their health.

The proxy leases a connection from a `Backend`, sends on it, reads the response's head and lets the content flow into
a sink. Knows neither the store nor the policy.
"""

from flyby.upstream._exchange import UpstreamExchange
from flyby.upstream._waiter import Wait, Waiter
from flyby.upstream.backend import RELEASE_LENGTH, Backend, BackendStatistics, OriginStatistics
from flyby.upstream.balance import Member, choose
from flyby.upstream.connection import UpstreamConnection
from flyby.upstream.dial import Origin
from flyby.upstream.donors import Donors, DonorStatistics
from flyby.upstream.pool import Lease
from flyby.upstream.sink import Sink

__all__ = [
    "RELEASE_LENGTH",
    "Backend",
    "BackendStatistics",
    "DonorStatistics",
    "Donors",
    "Lease",
    "Member",
    "Origin",
    "OriginStatistics",
    "Sink",
    "UpstreamConnection",
    "UpstreamExchange",
    "Wait",
    "Waiter",
    "choose",
]
