"""`GET /.flyby/buildpack.tgz`: the buildpack, stamped with the name under which the client reached this edge.

So `heroku buildpacks:add --index 1 https://EDGE/.flyby/buildpack.tgz` needs no other setting: dynos dial back to EDGE.
The name is taken for one of TLS, even where something before the edge ends it, unless it is this very machine's: an
agent sends its token in clear to no other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from flyby.errors import WireError
from flyby.heroku.archive import Buildpack, EdgeURLError, is_loopback
from flyby.policy import Outcome, evaluate
from flyby.wire import REASONS, Fields, serialise_response

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange

BUILDPACK_PATH = b"/.flyby/buildpack.tgz"


class Download:
    """Answers for the buildpack; `agent` makes the agent's zipapp when it is first wanted."""

    def __init__(self, agent: Callable[[], bytes]) -> None:
        self._agent = agent

    @cached_property
    def _buildpack(self) -> Buildpack:
        return Buildpack(self._agent())

    def answer(self, exchange: Exchange) -> None:
        """Send it. Raises `WireError` 405, or 400 for a Host that cannot be an edge's."""
        request = exchange.request
        if request.method not in (b"GET", b"HEAD"):
            raise WireError(405, "method-refused", "the buildpack can only be fetched")
        host = request.host.decode("ascii", "replace")
        scheme = (
            request.scheme.decode() if is_loopback(host.rsplit(":", 1)[0] if host[-1:] != "]" else host) else "https"
        )
        try:
            content = self._buildpack.stamped(f"{scheme}://{host}")
        except EdgeURLError as error:
            raise WireError(400, "edge-name", str(error)) from None
        fields = Fields(
            [
                (b"Content-Type", b"application/gzip"),
                (b"Cache-Control", b"no-cache"),
                (b"ETag", b'"' + sha256(content).hexdigest()[:32].encode() + b'"'),
            ]
        )
        status = evaluate(request, fields, 200) or 200
        exchange.note(Outcome.LOCAL, None, status)
        head = serialise_response(status, REASONS[status], fields)[:-2]
        if status == 200:
            exchange.downstream.send_stored(head, len(content), (content,), status)
        else:
            exchange.downstream.send_stored(head, -1 if status == 304 else 0, (), status)
