"""What is counted: each worker in a page of shared memory of its own, added up by whoever shows it.

    `Pages`      the pages of all workers, made before they are forked          `PagesView`  a look at another process's
    `Metrics`    one page, for its worker to count in                           `MetricsSnapshot`  what was counted

Outcomes and reasons are the words of policy's one table (this floor stands left of it, so they arrive as strings), so
header, log and metrics never disagree. Counting a request is a few additions: no lock, no system call, no clock. A
worker that is killed loses nothing that was counted, and the one in its place goes on in the same page.
"""

from flyby.metrics._page import NO_ROUTE, Metrics
from flyby.metrics.pages import Pages, PagesView
from flyby.metrics.routes import route_name
from flyby.metrics.snapshot import Latency, MetricsSnapshot, total

__all__ = ["NO_ROUTE", "Latency", "Metrics", "MetricsSnapshot", "Pages", "PagesView", "route_name", "total"]
