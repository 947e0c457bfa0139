"""The names of routes in what is counted: only from the configuration, so that no client can make new ones."""

from __future__ import annotations

from flyby.config import Route


def route_name(route: Route) -> str:
    """What a route matches and where it leads, as `www.example.com/api app`; routes that say the same share a name."""
    scheme = f"{route.scheme}://" if route.scheme is not None else ""
    fields = "".join(f" {name}" for name in route.headers)  # a value may be a secret
    leads_to = ",".join(route.shares) or "redirect"
    return f"{scheme}{route.host or '*'}{route.path or ''}{fields} {leads_to}"
