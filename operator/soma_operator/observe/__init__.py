"""What is there: facts about children, and the resources that own them, kept in memory.

Lives here: reading facts from objects (pure) and the store that watch events, our own writes and the resync fill. Of
a child only facts are kept, never its body. Imports `ownership`, `catalog`.
"""

from __future__ import annotations
