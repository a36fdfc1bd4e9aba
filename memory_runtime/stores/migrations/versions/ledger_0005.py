"""Finds the texts whose words an older release indexed as it cut them: those that are not ASCII.

Expand only: version N-1 goes on writing and finding such texts in its own way, and the index notes which they are.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
serves_back_to = "0001"


def upgrade() -> None:
    """Makes the partial index, which is empty once the texts have been indexed anew."""
    op.execute("CREATE INDEX memories_unfolded ON memories (row) WHERE length(text) <> length(CAST(text AS BLOB))")


def downgrade() -> None:
    """Drops it."""
    op.execute("DROP INDEX memories_unfolded")
