"""`fairquant`, and `python -m fairquant`."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the command line and run it; Ctrl-C while it is imported is no traceback either."""
    try:
        from fairquant.cli import main as run
    except KeyboardInterrupt:
        print("fairquant: stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
