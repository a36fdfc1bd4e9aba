"""Which version of each memory an event has told of: a late event must not undo a later one, nor a delete.

Expand only: version N-1 neither reads nor writes the table.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
serves_back_to = "0001"


def upgrade() -> None:
    """Makes the table."""
    op.execute(
        """
        CREATE TABLE origin_versions (
            origin TEXT NOT NULL,
            id BLOB NOT NULL,
            version INTEGER NOT NULL,
            PRIMARY KEY (origin, id)
        ) STRICT, WITHOUT ROWID
        """
    )


def downgrade() -> None:
    """Drops it."""
    op.execute("DROP TABLE origin_versions")
