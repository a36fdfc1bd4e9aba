"""Kubernetes Events: what people see in `kubectl describe`. Only transitions, aggregated, and never more than a
trickle.

Imports `cluster`, `catalog`, `telemetry`.
"""

from __future__ import annotations
