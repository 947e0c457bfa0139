"""A word in the log where an app refuses the forms of its own pages, for it does not know its public name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flyby.proxy.routing import forwarding

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange

logger = logging.getLogger("flyby.proxy")


def tell_of_refused_form(exchange: Exchange, status: int) -> None:
    """Say once for each backend what to do, where `status` refuses a request of one of the edge's own pages."""
    name, told = exchange.backend_name, exchange.context.refused_forms
    if name in told or not forwarding.refuses_form(exchange.request, status):
        return
    told.add(name)
    logger.warning(
        "%s answered 403 to a %s of a page of this edge: it may compare Origin (%s) with the Host that it was sent. Let"
        ' the app believe X-Forwarded-Host, or write host = "client" or map_origin = true in [backends.%s]'
        " (docs/frameworks.md)",
        name,
        exchange.request.method.decode("ascii", "replace"),
        forwarding.own_origin(exchange.request).decode("latin-1"),
        name,
    )
