"""Names of the schema that this code expects; a test compares them with Alembic's scripts and with a real database."""

from __future__ import annotations

from typing import Final

HEAD: Final = "0006"
KNOWN: Final = frozenset({"0000", "0001", "0002", "0003", "0004", "0005", "0006"})
VERSION_TABLE: Final = "soma_alembic_version"
"""A line of our own: the service that we replace has an `alembic_version` that is not ours to touch."""

WORDS: Final = "soma_words"
"""The text search configuration: PostgreSQL's parser, Porter's stems, no stop words."""
