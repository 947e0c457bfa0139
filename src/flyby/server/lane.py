"""What the fast lane answers by: a context, told in the lane's own terms.

The lane knows routes as numbered signs; all that it needs of a route stands at its number: the cache's rules, what
sends a plain request on, and the row that counts it.
"""

from __future__ import annotations

from flyby.log import AccessLog, Guarded
from flyby.proxy.fetching.forwarders import forwarder
from flyby.proxy.lane._crowd import Crowds
from flyby.proxy.lane._lane import Lane
from flyby.proxy.road.context import Context


def use_lane(lane: Lane, context: Context, log: AccessLog | Guarded | None) -> None:
    """Let the lane answer by this context from now on; without a store there is nothing that it could answer."""
    if context.store is None:
        return
    server = context.config.server
    lines = log if isinstance(log, AccessLog) else None
    # A route that has something of its own in the road is not for the lane.
    signs = [
        (sign._replace(serves=sign.serves and id(route) not in context.seams), route)
        for sign, route in context.router.signs()
    ]
    lane.use(
        context.store,
        [(sign, context.rules[id(route)]) for sign, route in signs],
        [forwarder(context, sign, route, lines) for sign, route in signs],
        Crowds(context, server.limits),
        context.local.prefix,
        server.limits,
        context.clock,
        server.timeouts.idle_s,
        log,
        context.metrics,
        [context.counted[id(route)] for _, route in signs],
    )
