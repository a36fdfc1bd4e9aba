"""Whether this version may serve on a schema of a later one: the ledger says so, as older code cannot know what later
revisions did.

Each revision names the oldest whose code may serve on it (`serves_back_to`, in its script): one that only adds leaves
what the revision before it named, one that takes something away raises it. A migration writes the newest one's into
the ledger's facts. So a replica of version N-1 may be started again after N has migrated, and a rollback works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

FACT: Final = "schema_serves_back_to"


class Found(NamedTuple):
    """What a ledger says of its schema: its revision, None where there is no ledger yet, and the oldest that may serve.

    Revisions are four digits, so that their order is that of their texts.
    """

    revision: str | None
    serves_back_to: str | None = None

    def is_newer(self, known: frozenset[str]) -> bool:
        """Whether a later version than this one migrated it."""
        return self.revision is not None and self.revision not in known

    def may_be_served(self, head: str, known: frozenset[str]) -> bool:
        """Whether the code whose newest revision is `head` may serve on it as it is."""
        if not self.is_newer(known):
            return self.revision == head
        return self.serves_back_to is not None and self.serves_back_to <= head

    def note(self, head: str, known: frozenset[str]) -> str:
        """What the user should hear of it while it is served; empty where nothing."""
        if not self.is_newer(known):
            return ""
        return f"the ledger was migrated by a later version (schema {self.revision}; this version's is {head})"


def stated(scripts: Path, revision: str) -> str:
    """What the script of a revision names as the oldest that may serve on it."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    script = ScriptDirectory.from_config(config).get_revision(revision)
    return str(script.module.serves_back_to)
