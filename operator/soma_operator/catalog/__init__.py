"""What the operator handles, by name: the kinds of objects, the labels, annotations and names that it gives them, and
how manifests are written.

Lives here: constants and value types without behaviour beyond building a path or a name. Imports nothing of ours.
"""

from __future__ import annotations
