"""Looks at the back ends that memories stand on: one probe for each endpoint, whoever uses it, outside of reconciles.

Lives here: what is said to each system to be sure that it is that system and answers, and when it is asked. No
credential is used, since the operator never reads one: whether a password is right is seen by the migration and by the
pods. Imports `observe`, `telemetry`, `catalog`.
"""

from __future__ import annotations
