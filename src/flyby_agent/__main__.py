"""`python -m flyby_agent`, and the entry point of the zipapp."""

import sys

from flyby_agent.command import main

if __name__ == "__main__":
    sys.exit(main())
