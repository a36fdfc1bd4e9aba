"""`python -m kubectl_soma`: the same as `kubectl soma`."""

from __future__ import annotations

import sys

from kubectl_soma.main import main

sys.exit(main())
