"""Who reconciles: one replica holds the Lease, the others watch along and are ready to take over.

Imports `cluster` (the connection), `settings`, `telemetry`.
"""

from __future__ import annotations
