"""`python -m flyby` is the command `flyby`."""

from __future__ import annotations

from flyby.cli import main

if __name__ == "__main__":
    main()
