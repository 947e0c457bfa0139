"""What Heroku needs to know of the edge: the buildpack that puts the agent into an app's dynos."""

from flyby.heroku.archive import Buildpack, EdgeURLError, checked_edge_url
from flyby.heroku.download import BUILDPACK_PATH, Download

__all__ = ["BUILDPACK_PATH", "Buildpack", "Download", "EdgeURLError", "checked_edge_url"]
