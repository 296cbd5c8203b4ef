"""The command line: `dlc …` and `python -m dlc …`."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line; the exit code."""
    from dlc.frontend.commands.cli import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
