"""What should be there: the child objects of one SomaMemory, as a function of its spec and a few observed facts.

Lives here: the templates (`*.yaml.j2`, readable by anyone who knows Kubernetes), what they are given, and the checks
and hashes of what comes out. Pure: no I/O but reading the package's own templates. Imports `ownership`, `catalog`,
`api`.
"""

from __future__ import annotations
