"""PURGE: remove or outdate what is stored, for those who may. The grammar of it is in docs/purging.md.

    Flyby-Purge     = [ word *( OWS "," OWS word ) ]      word = scope / strength, at most one of each, in any order
    scope           = "url" / "prefix" / "host" / "tag" / "all"        default: url; tag where Flyby-Purge-Tag is given
    strength        = "hard" / "soft"                                  default: hard
    Flyby-Purge-Tag = tag *( 1*SP tag )                                as Surrogate-Key; with scope tag, and only then

The target names the URL, prefix or host, whatever the scheme under which it is stored. Allowed is who sends the
configured secret (`Authorization: Bearer …`, or `Flyby-Purge-Secret`), or comes from a configured address range; with
neither configured, nobody. The answer is JSON: `{"purged": 3}`, of tags also `"tags": {"a": 2, "b": 1}`.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from typing import TYPE_CHECKING, Any

from flyby.errors import StoreError, WireError
from flyby.policy import Outcome, named_tags
from flyby.policy.key import primary_key
from flyby.proxy.routing.resource import place_of, stem_key
from flyby.proxy.stored import variants
from flyby.store import Store
from flyby.wire import BodyKind, Fields

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange

SCHEMES = (b"http", b"https")
SCOPES = frozenset((b"url", b"prefix", b"host", b"tag", b"all"))
STRENGTHS = frozenset((b"hard", b"soft"))


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
        address = ipaddress.ip_address(exchange.client.address)
    except ValueError:
        return False
    return any(address in network for network in exchange.context.purgers)


def parse(fields: Fields) -> tuple[bytes, bool, tuple[bytes, ...]]:
    """What a PURGE with these fields asks for: (scope, soft, tags). Raises `WireError` 400."""
    scope = strength = None
    for word in (fields.combined(b"flyby-purge") or b"").split(b","):
        word = word.strip(b" \t").lower()
        if word in SCOPES and scope is None:
            scope = word
        elif word in STRENGTHS and strength is None:
            strength = word
        elif word:
            raise WireError(
                400, "purge-mode", "Flyby-Purge is one of url, prefix, host, tag, all and one of hard, soft"
            )
    given = fields.combined(b"flyby-purge-tag")
    tags = named_tags(b" ".join(fields.get_all(b"flyby-purge-tag")))
    scope = scope or (b"url" if given is None else b"tag")
    if tags is None:
        raise WireError(400, "purge-tag", "at most 128 tags, of at most 1024 bytes each, can be purged at once")
    if (scope == b"tag") != bool(tags):
        raise WireError(400, "purge-tag", "Flyby-Purge-Tag names the tags of a purge by tag, and of no other")
    return scope, strength == b"soft", tags


def run(exchange: Exchange) -> None:
    """Answer a PURGE request. Raises `WireError` 403, 400 or 503."""
    if not _allowed(exchange):
        raise WireError(403, "purge-refused", "PURGE needs the configured secret or address")
    if exchange.request.body is not BodyKind.NONE:
        raise WireError(400, "purge-content", "PURGE takes no content")
    scope, soft, tags = parse(exchange.request.fields)
    store = exchange.context.store
    report: dict[str, Any] = {"purged": 0}
    try:
        if store is not None and scope == b"tag":
            counts = store.purge_tags(tags, soft, exchange.context.clock.wall_ms())
            report["purged"] = sum(counts)
            report["tags"] = {tag.decode("utf-8", "replace"): n for tag, n in zip(tags, counts, strict=True)}
        elif store is not None:
            report["purged"] = _purge(exchange, store, scope, soft)
    except StoreError as error:
        raise WireError(503, "purge-incomplete", str(error)) from error
    content = json.dumps(report).encode() + b"\n"
    fields = Fields([(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store")])
    exchange.answer(Outcome.LOCAL, None, 200, fields, content)


def _purge(exchange: Exchange, store: Store, scope: bytes, soft: bool) -> int:
    now_ms = exchange.context.clock.wall_ms()
    if scope == b"all":
        return store.clear(soft, now_ms)
    request = exchange.request
    if scope != b"url":
        path = request.path if scope == b"prefix" else b"/"
        return sum(purge_prefix(store, scheme, request.host, path, soft, now_ms) for scheme in SCHEMES)
    match = exchange.context.router.match(request)
    if match is None or match.redirect is not None:
        return 0
    rules = exchange.context.rules[id(match.route)]
    stems = [primary_key(scheme, request.host, request.path, rules)[0] for scheme in SCHEMES]
    keys = [stem_key(stem, owner) for stem in stems for owner in _owners(exchange)]
    return sum(variants.purge(store, key, soft, now_ms) for key in keys)


def _owners(exchange: Exchange) -> set[bytes]:
    """As whose the keys of this host's resources may be: of all backends that any of its requests can go to."""
    context, host = exchange.context, exchange.request.host + b":"
    return {
        context.rules[id(route)].owner or name.encode()
        for route in context.router.routes
        for name in route.shares
        if (route.host is None or route.host.startswith("*") or host.startswith(route.host.lower().encode() + b":"))
    }


def purge_prefix(store: Store, scheme: bytes, host: bytes, path: bytes, soft: bool, now_ms: int) -> int:
    """Purge `path` and what lies below it; of "/", the whole host.

    "/news" is followed by "/", "?" or nothing, as in a route: "/newsletter" does not lie below it. The work is
    proportional to what is stored of the host, or of the path's first segment.
    """
    prefix = b"%b %b %b" % (scheme, host, path)
    host_length, segment_length = place_of(prefix)
    place = (host_length, 0 if path == b"/" else segment_length)
    return store.purge_prefix(prefix, place, soft, now_ms, b"" if path[-1:] in b"/?&=" else b"/?\0")
