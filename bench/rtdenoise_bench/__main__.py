import sys

from rtdenoise_bench.cli import main

sys.exit(main())
