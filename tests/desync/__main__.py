"""`python -m tests.desync`: the payloads against flyby, as a table; exit status 1 when one did not pass.

`--proxy HOST:PORT --upstream-port N` plays them against another proxy, which must forward every Host to port N here.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from contextlib import ExitStack

from tests.desync.payloads import load
from tests.desync.play import LANES, Lane, Played, lanes, play_all
from tests.desync.upstream import Upstream


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.desync", description="Plays the desync payloads.")
    parser.add_argument("--only", default="", metavar="REGEX", help="play only payloads whose name matches")
    parser.add_argument("--mode", choices=("whole", "bytewise", "both"), default="both")
    parser.add_argument("--lanes", type=int, default=LANES, help="flybys that play at the same time")
    parser.add_argument("--proxy", metavar="HOST:PORT", help="play against this proxy instead of flyby")
    parser.add_argument("--upstream-port", type=int, default=0, metavar="N", help="where it expects its upstream")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell of those that pass, too")
    options = parser.parse_args()
    payloads = [payload for payload in load() if re.search(options.only, payload.name)]
    modes = ("whole", "bytewise") if options.mode == "both" else (options.mode,)
    failed = False

    def tell(played: Played) -> None:
        if options.verbose or played.verdict != "pass":
            print(played, flush=True)

    with ExitStack() as running:
        if options.proxy is None:
            over = running.enter_context(lanes(options.lanes))
        else:
            host, _, port = options.proxy.rpartition(":")
            upstream = Upstream(options.upstream_port)
            running.callback(upstream.close)
            over = [Lane((host, int(port)), upstream)]
        for mode in modes:
            print(f"== {mode}: {len(payloads)} payloads", flush=True)
            began = time.monotonic()
            results = play_all(payloads, over, bytewise=mode == "bytewise", tell=tell)
            counts = Counter(played.verdict for played in results)
            refused = sum(played.payload.control and played.verdict != "pass" for played in results)
            told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
            print(f"== {mode}: {told}; {refused} controls failed; {time.monotonic() - began:.0f} s", flush=True)
            failed |= counts["pass"] != len(results)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
