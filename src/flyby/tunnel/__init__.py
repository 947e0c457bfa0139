"""The edge's end of the tunnel: dynos dial in and donate keep-alive connections (docs/tunnel.md is the protocol).

    an agent's GET /.flyby/tunnel ─▶ handshake ─┬─ control ─▶ session ── lines ──┐
                                                └─ link ────▶ dyno ◀─ registers ─┘
    proxy/fetch ─▶ upstream.Backend.lease ─▶ dynos (who is asked, who waits) ─▶ a dyno's idle link

After the 101 a link is an connection like one that the edge has dialled, and nothing here sees its bytes.
Every worker has dynos, sessions and links of its own; no message crosses workers.
"""

from flyby.tunnel.handshake import PATH as TUNNEL_PATH
from flyby.tunnel.messages import printable
from flyby.tunnel.tunnel import Tunnel, TunnelStatistics

__all__ = ["TUNNEL_PATH", "Tunnel", "TunnelStatistics", "printable"]
