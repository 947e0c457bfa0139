"""flyby-agent: the dyno's end of the tunnel, for any application that can dial out but cannot be dialled.

It runs beside the application, dials the edge, asks to be turned round (`Upgrade: flyby-tunnel/1`), and answers on
those connections with what the application says on its local port:

    edge ◀── TLS ── Link ── exchange ── Local ── TCP ──▶ the application
         ◀── TLS ── Control (one for each worker of each edge node): register, heartbeat, spare, drain

Standard library only, Python 3.9 or newer, nothing of `flyby`, so that one zipapp runs wherever there is a Python. What
knows what, from the bottom: framing, backoff, log, faults, forward · settings, endpoints, trust · app, link · upgrade,
control, node · health, agent · supervisor, status, diagnose · command.
"""

__version__ = "0.1.0"
