"""Which signals mean something, and which must merely not kill.

A log rotation sends USR1 to whatever it takes for nginx, a timer of some library ALRM, a terminal WINCH: the default
of most of these is to end the process, which here would be an outage without a line. So every signal that would end a
process and that nobody needs for that (KILL, TERM and their kin, and what the processor raises) is taken by the
supervisor, which says that it means nothing, and stays blocked in its children.
"""

from __future__ import annotations

import signal

SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
MEANINGLESS = frozenset(
    {
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO),
        *(signal.SIGPWR, signal.SIGSTKFLT, signal.SIGWINCH),
        *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
    }
)
WATCHED = SIGNALS | MEANINGLESS


def name_of(signum: int) -> str:
    """Its name for people; a real-time signal has none of its own."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
