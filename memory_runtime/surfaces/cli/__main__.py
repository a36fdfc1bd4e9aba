"""`python -m memory_runtime.surfaces.cli`: the command where the entry point is not installed."""

import sys

from memory_runtime.surfaces.cli.main import main

sys.exit(main())
