"""What this installation lets a SomaMemory ask for. Who may create one chooses image, variables, Secrets and hosts, and
the operator has more rights than they: without limits it would be their deputy.

Lives here: the policy as a value, and its judgement of a spec, of an address, and of the consent of what is named.
Pure: files are read by `main`, objects by `reconcile`. Imports `desired`, `catalog`, `api`.
"""

from __future__ import annotations
