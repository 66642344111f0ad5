"""`python -m rtdenoise` and the command `rtdenoise`: a process of our own, which a signal may end at any moment."""

import sys

from rtdenoise import signals


def main() -> int:
    """Run the command; until it has begun, and once it is over, there is nothing to put in order."""
    signals.end_at_once()
    from rtdenoise.cli.main import main as command

    return command()


if __name__ == "__main__":  # a spawned worker process imports this module again
    sys.exit(main())
