"""What Heroku needs to know of the edge: the buildpack that puts the agent into an app's dynos."""

from flyby.heroku.archive import EdgeURLError, build_buildpack, checked_edge_url

__all__ = ["EdgeURLError", "build_buildpack", "checked_edge_url"]
