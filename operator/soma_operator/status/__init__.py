"""What is told about a resource: its whole status as a function of what was found and of the status before.

Lives here: conditions, preflight, drift, history. Pure, and deterministic: the same findings give the same status, or
tools re-sync for ever. Imports `plan`, `desired`, `observe`, `catalog`, `api`.
"""

from __future__ import annotations
