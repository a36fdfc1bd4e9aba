"""Being terminated is being interrupted: what a tool has begun is undone either way."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable


def interruptible(tool: str, main: Callable[[], int]) -> int:
    """Runs `main`; 130 where SIGINT or SIGTERM ended it, after its own clean-up has stopped what it had started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        print(f"{tool}: interrupted; what it had started is stopped", file=sys.stderr)
        return 130
