"""The outbox tells each change whole, as it was done: what an event needs must not be read from a later version.

Expand only: version N-1 goes on writing rows without these columns, and readers take their defaults.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
serves_back_to = "0001"

COLUMNS = (
    "created INTEGER NOT NULL DEFAULT 0",
    "coordinate TEXT NOT NULL DEFAULT ''",
    "event_time REAL",
    "importance REAL",
    "model_revision TEXT NOT NULL DEFAULT ''",
    "origin TEXT NOT NULL DEFAULT ''",
    "trace TEXT NOT NULL DEFAULT ''",
)


def upgrade() -> None:
    """Adds the columns."""
    for column in COLUMNS:
        op.execute(f"ALTER TABLE outbox ADD COLUMN {column}")


def downgrade() -> None:
    """Drops the columns."""
    for column in reversed(COLUMNS):
        op.execute(f"ALTER TABLE outbox DROP COLUMN {column.split()[0]}")
