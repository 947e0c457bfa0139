"""The two logs: one access line a request on standard output, and what the operator must know on standard error."""

from flyby.log._lines import FLUSH_BYTES, MAX_WAITING
from flyby.log.access import AccessLog, operations, set_up_operations_log
from flyby.log.formats import FORMATS, AccessRecord, Formatter, escape, formatter
from flyby.log.guard import Guarded

__all__ = [
    "FLUSH_BYTES",
    "FORMATS",
    "MAX_WAITING",
    "AccessLog",
    "AccessRecord",
    "Formatter",
    "Guarded",
    "escape",
    "formatter",
    "operations",
    "set_up_operations_log",
]
