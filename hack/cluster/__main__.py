"""Entry point of `python -m hack.cluster`."""

from __future__ import annotations

import sys

from hack.cluster.cli import main

sys.exit(main())
