"""`python -m rtdenoise`: the same as the command `rtdenoise`."""

import sys

from rtdenoise.cli import main

if __name__ == "__main__":  # a spawned worker process imports this module again
    sys.exit(main())
