"""PURGE: remove one URL with all its variants, or everything, for those who may.

    PURGE /path                       that URL, every variant
    PURGE /path  Flyby-Purge: soft    becomes stale: may still be served while it is refreshed, or when the origin fails
    PURGE /      Flyby-Purge: all     the whole cache

Allowed is who sends the configured secret (`Authorization: Bearer …`, or `Flyby-Purge-Secret`), or comes from a
configured address range; with neither configured, nobody. The answer is JSON with the count.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING

from flyby.errors import WireError
from flyby.policy import Outcome
from flyby.proxy import variants
from flyby.proxy.resource import resource_key
from flyby.wire import REASONS, BodyKind, Fields

if TYPE_CHECKING:
    from flyby.proxy.exchange import Exchange


def _allowed(exchange: Exchange) -> bool:
    settings = exchange.context.config.server.purge
    fields = exchange.request.fields
    if settings.secret:
        secret = settings.secret.encode()
        given = fields.get(b"flyby-purge-secret") or b""
        scheme, _, token = (fields.get(b"authorization") or b"").partition(b" ")
        if scheme.lower() == b"bearer":
            given = token
        if hmac.compare_digest(given, secret):
            return True
    if not exchange.context.purgers:
        return False
    try:
        address = ipaddress.ip_address(exchange.downstream.client.address)
    except ValueError:
        return False
    return any(address in network for network in exchange.context.purgers)


def run(exchange: Exchange) -> None:
    """Answer a PURGE request. Raises `WireError` 403 or 400."""
    request = exchange.request
    store = exchange.context.store
    if not _allowed(exchange):
        raise WireError(403, "purge-refused", "PURGE needs the configured secret or address")
    if request.body is not BodyKind.NONE:
        raise WireError(400, "purge-content", "PURGE takes no content")
    mode = (request.fields.get(b"flyby-purge") or b"hard").lower()
    if mode not in (b"hard", b"soft", b"all"):
        raise WireError(400, "purge-mode", "Flyby-Purge is one of hard, soft, all")
    count = 0
    if store is not None and mode == b"all":
        count = store.clear()
    elif store is not None:
        match = exchange.context.router.match(request)
        if match is not None and match.redirect is None:
            rules = exchange.context.rules[id(match.route)]
            primary, _ = resource_key(match, request.scheme, request.host, request.path, rules)
            count = variants.purge(store, primary, soft=mode == b"soft")
    content = b'{"purged": %d}\n' % count
    fields = Fields([(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store")])
    exchange.note(Outcome.LOCAL, None, 200)
    exchange.downstream.begin(200, REASONS[200], fields, len(content))
    exchange.downstream.data(content)
    exchange.downstream.end()
