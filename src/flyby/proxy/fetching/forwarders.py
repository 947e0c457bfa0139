"""What sends plain requests on, by route."""

from __future__ import annotations

from flyby.clock import SystemClock
from flyby.config import Route
from flyby.log import AccessLog
from flyby.proxy.fetching._flat import Forwarder
from flyby.proxy.road.context import Context
from flyby.proxy.routing.router import Match, Sign


def forwarder(context: Context, sign: Sign, route: Route, log: AccessLog | None) -> Forwarder | None:
    """The forwarder of one route; None where requests on it must be sent on otherwise.

    `log` is the one that takes the context's records, if it takes lines too.
    """
    rules = route.request_headers
    if type(context.clock) is not SystemClock:
        return None  # a forwarder reads the machine's clock
    # What a client says of earlier hops is dropped there.
    appends = context.config.server.forwarded == "append"
    if appends or not sign.serves or route.rewrite is not None or rules.set or rules.add or rules.remove:
        return None
    if context.backends[sign.backend].settings.map_origin:
        return None
    match = Match(route, sign.backend, b"")
    return Forwarder(context, match, context.rules[id(route)], context.config.server.limits, log)
