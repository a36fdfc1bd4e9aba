"""What the operator handles, by name: the kinds of objects, and the labels, annotations and names that it gives them.

Lives here: constants and value types without behaviour beyond building a path or a name. Imports nothing of ours.
"""

from __future__ import annotations
