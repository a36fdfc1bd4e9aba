"""The reconcile: observe, desired, plan, apply, status, for one resource at a time, whatever woke it.

Lives here: the queue, the carrying out of steps, the slots for rollouts, and the resync that repairs what watches
missed. Imports everything below: `status`, `plan`, `desired`, `observe`, `cluster`, `events`, `catalog`, `api`,
`telemetry`.
"""

from __future__ import annotations
