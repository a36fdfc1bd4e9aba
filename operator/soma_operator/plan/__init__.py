"""What has to be done: the difference between desired and observed, as steps.

Lives here: pure functions of values; the steps are carried out by `reconcile`. Imports `desired`, `observe`,
`ownership`, `catalog`, `api`.
"""

from __future__ import annotations
